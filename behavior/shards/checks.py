"""Tables of a data set, checked as they are read: whoever reads, nothing wrong gets further than here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.errors import UserError
from behavior.shards.columns import ColumnRule

Damaged = Callable[[str], UserError]
"""Makes the error of what is wrong."""


def checked_columns(table: pa.Table, rules: Mapping[str, ColumnRule], damaged: Damaged) -> pa.Table:
    """A table whose columns are of the types that the format names.

    Args:
        table: any of the columns of a file.
        rules: what they may hold.
        damaged: makes the error.

    Returns:
        The same table; columns of wider types have the format's, since every value fits.

    Raises:
        UserError: two columns of a name, one of another shape or type, a value that is missing or cannot be.
    """
    names = table.column_names
    if twice := [name for name in names if names.count(name) > 1]:
        raise damaged(f"there are {names.count(twice[0])} columns '{twice[0]}'")
    for place, name in enumerate(table.column_names):
        rule = rules.get(name)
        if rule is not None:
            column = _checked(table.column(place), rule, _of_column(name, damaged))
            if column is not None:
                table = table.set_column(place, name, column)
    return table


def check_sequences(
    table: pa.Table, rules: Mapping[str, ColumnRule], damaged: Damaged, *, by_time: bool = True
) -> int | None:
    """Check what holds between the columns of sequences, which `checked_columns` has been through.

    Args:
        table: any of the columns of a sequence file.
        rules: what they may hold.
        damaged: makes the error.
        by_time: whether events are in order of time.

    Returns:
        The number of events; None where the table has no column with one value an event.

    Raises:
        UserError: columns differ in length, times fall, or a cut lies outside its sequence.
    """
    lists = [name for name in table.column_names if name in rules and rules[name].shape == "events"]
    if not lists:
        return None
    lengths = _lengths(table.column(lists[0]))
    for name in lists[1:]:
        if not np.array_equal(lengths, _lengths(table.column(name))):
            raise damaged(f"columns of different lengths, '{lists[0]}' and '{name}'")
    if by_time and "timestamp" in lists and _falls(table.column("timestamp"), lengths):
        raise damaged("times that are not in order")
    cuts = [name for name in ("train_end", "valid_end") if name in table.column_names]
    for earlier, later in pairwise([*(table.column(name).to_numpy() for name in cuts), lengths]):
        if (earlier > later).any():
            raise damaged("a cut outside its sequence")
    return int(lengths.sum())


def check_indices(table: pa.Table, first: int | None, damaged: Damaged) -> None:
    """Indices count up by one, from `first` where that is known.

    Raises:
        UserError: they do not.
    """
    indices = table.column("index").to_numpy()
    begin = first if first is not None or not len(indices) else int(indices[0])
    if len(indices) and not (indices[0] == begin and (np.diff(indices) == 1).all()):
        raise damaged("its indices do not count up by one")


def _checked(column: pa.ChunkedArray, rule: ColumnRule, wrong: Damaged) -> pa.ChunkedArray | None:
    """None where the column has the format's type already."""
    nested = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if nested != (rule.shape != "value"):
        raise wrong(f"is of type {column.type}, " + ("one list a row" if nested else "not a list a row"))
    if column.null_count and not (rule.missing and rule.shape != "events"):
        raise wrong("has rows without a value")
    chunks = [chunk.flatten() for chunk in column.chunks] if nested else column.chunks
    kind = column.type.value_type if nested else column.type
    values = pa.chunked_array(chunks, kind)
    if values.null_count and not rule.missing:
        raise wrong("has events without a value")
    wanted = rule.type or (pa.int64() if pa.types.is_integer(kind) else pa.string())
    if not _alike(kind, wanted):
        raise wrong(f"has values of type {kind}, not {wanted}")
    if rule.values is not None and len(values) - values.null_count:
        ends = pc.min_max(values)
        if not rule.values.start <= ends["min"].as_py() <= ends["max"].as_py() < rule.values.stop:
            raise wrong(f"has values that are not from {rule.values.start} to {rule.values.stop - 1}")
    if kind == wanted or rule.type is None:
        return None
    try:
        cast = values.cast(wanted)
    except pa.ArrowException:
        raise wrong(f"has values that are not of type {wanted}") from None
    return cast if not nested else _nested(column, cast)


def _of_column(name: str, damaged: Damaged) -> Damaged:
    return lambda what: damaged(f"column '{name}' {what}")


def _alike(kind: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_integer(wanted):
        return pa.types.is_integer(kind)
    if pa.types.is_floating(wanted):
        return pa.types.is_floating(kind) or pa.types.is_integer(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _nested(column: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of the same lengths with other values."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    flat = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    return pa.chunked_array([pa.ListArray.from_arrays(pa.array(offsets), flat)])


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return pc.list_value_length(column).to_numpy()


def _falls(times: pa.ChunkedArray, lengths: np.ndarray) -> bool:
    """Whether any time is smaller than the one before it in its sequence."""
    values = np.concatenate([chunk.flatten().to_numpy() for chunk in times.chunks] or [np.zeros(0, np.int64)])
    smaller = values[1:] < values[:-1]
    starts = np.cumsum(lengths[:-1])
    smaller[starts[(starts > 0) & (starts < len(values))] - 1] = False
    return bool(smaller.any())
