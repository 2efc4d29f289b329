"""Specs that are not filled in yet: `lrm inspect` writes ??? for what it cannot tell."""

from __future__ import annotations

from typing import Any

from behavior.errors import UserError

OPEN = "???"


def open_settings(record: Any, path: str = "") -> list[str]:
    """Paths of the settings that are left to fill in, such as events.columns.user."""
    if record == OPEN:
        return [path]
    inner = (
        record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    )
    return [found for key, value in inner for found in open_settings(value, f"{path}.{key}".lstrip("."))]


def check_filled_in(record: dict[str, Any], where: str) -> None:
    """Refuse a spec in which something is left to fill in.

    Raises:
        UserError: naming all that is.
    """
    missing = open_settings(record)
    if missing:
        raise UserError(
            f"the spec is not filled in: still ??? at {', '.join(missing)}",
            where=where,
            fix="put what is right in place of ???; 'lrm inspect' of the log shows its columns",
        )
