"""Python's values, as JSON and callers have them, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.values import parse_text, shown
from behavior.errors import UserError

AS_IN_THE_LOG = "give ids as they are in the log: whole numbers or text"
"""What to do about an id that is none."""
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
    except UnicodeEncodeError as error:
        raise UserError(
            f"'{name}' has text with half of a surrogate pair: {error.object[:20]!r}",
            where=where,
            fix="give whole letters",
        ) from None
    except _REFUSED:
        pass  # an integer past 64 bits is text, too, and refused as such where integers are wanted
    try:
        return pa.array([_as_text(value) for value in values])
    except _REFUSED:
        raise UserError(
            f"'{name}' has lists and single values", where=where, fix="make all of them the same"
        ) from None


def as_ids(ids: Iterable[Any] | pa.Array, name: str) -> pa.Array:
    """Ids as callers have them, see `column_of`.

    Raises:
        UserError: it is one id, and no list of them.
    """
    check_several(ids, name)
    return ids if isinstance(ids, pa.Array) else column_of(list(ids), name, name)


def check_several(given: Any, name: str) -> None:
    """Refuse a single value where several are meant: text would be taken for its letters.

    Raises:
        UserError: it is one.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise UserError(f"{name} is {given!r:.40}, not a list", where=name, fix="put it into one: [...]")


def text_of_ids(ids: pa.Array, of: str, where: str) -> pa.Array:
    """Ids as text; a float is one where it is a whole number.

    Args:
        ids: as callers or files have them.
        of: what they are of, for messages.
        where: what messages name.

    Raises:
        UserError: one is missing, or a number with decimals; says which.
    """
    text, good = parse_text(ids)
    for row in np.flatnonzero(~good)[:1]:
        place = f"{where}, row {int(row) + 1}"
        raise UserError(f"{of} {shown(ids, int(row))} is not an id", where=place, fix=AS_IN_THE_LOG)
    return text


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as Python's values: float32 as the numbers of fewest digits that are read as the same float32.

    As float64 the value next to 0.1 would have the digits 0.10000000149011612.
    """
    columns = [plain(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()


def plain(column: pa.Array) -> pa.Array:
    """A column whose float32, in lists and structs as well, have become float64 of as few digits."""
    kind = column.type
    short, wide = _replaced(kind, pa.string()), _replaced(kind, pa.float64())
    return column if short == kind else column.cast(short).cast(wide)


def _replaced(kind: pa.DataType, by: pa.DataType) -> pa.DataType:
    """A type with another in place of float32."""
    if pa.types.is_float32(kind):
        return by
    if pa.types.is_large_list(kind):
        return pa.large_list(_replaced(kind.value_type, by))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_replaced(kind.value_type, by), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_replaced(kind.value_type, by))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_replaced(field.type, by)) for field in kind])
    return kind


def _as_text(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return value if isinstance(value, str) else str(value)
