"""Python's values, as JSON and callers have them, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from behavior.errors import UserError

_REFUSED = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def column_of(values: Sequence[Any], name: str, where: str) -> pa.Array:
    """A column of values, or of lists of them; of several kinds, such as numbers and text, all as text.

    Args:
        values: of any kinds; None is null.
        name: of the column, for messages.
        where: what messages name.

    Raises:
        UserError: some are lists and others are not.
    """
    try:
        return pa.array(values)
    except _REFUSED:
        pass  # an integer past 64 bits is text, too, and refused as such where integers are wanted
    try:
        return pa.array([_as_text(value) for value in values])
    except _REFUSED:
        raise UserError(
            f"'{name}' has lists and single values", where=where, fix="make all of them the same"
        ) from None


def as_ids(ids: Sequence[Any] | pa.Array, name: str) -> pa.Array:
    """Ids as callers have them, see `column_of`."""
    return ids if isinstance(ids, pa.Array) else column_of(list(ids), name, name)


def _as_text(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return value if isinstance(value, str) else str(value)
