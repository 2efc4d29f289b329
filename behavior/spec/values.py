"""Values that a spec may write in more than one way."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator


def one_or_many(value: Any) -> Any:
    """A single value as a list of one; for pydantic's `BeforeValidator`."""
    return value if value is None or isinstance(value, list) else [value]


OneOrMany = BeforeValidator(one_or_many)
