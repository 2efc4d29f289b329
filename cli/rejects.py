"""`--max-rejects`, of all commands that set rows aside."""

from __future__ import annotations

from behavior.errors import UsageError


def limit_of(text: str) -> int | float:
    """`--max-rejects`: 100 rows, or the share 0.01 or 1%."""
    try:
        if text.endswith("%"):
            limit: int | float = float(text[:-1]) / 100
        else:
            limit = int(text) if text.isdigit() else float(text)
    except ValueError:
        limit = -1
    if limit < 0 or (isinstance(limit, float) and not limit <= 1):
        raise UsageError(
            f"'{text}' is neither a number of rows nor a share",
            where="--max-rejects",
            fix="write for example 100, 0.01 or 1%",
        )
    return limit
