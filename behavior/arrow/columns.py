"""Columns of many values, put together, in another order, or in part, without more of them in memory at once.

What comes out is what Arrow's own functions give; large results lie in a file (`behavior.runtime.scratch`).
Only columns of numbers without nulls are large in practice, and others are left to Arrow.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.runtime import scratch
from behavior.runtime.compiled import compiled


def joined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array of all chunks of a column."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    if not is_plain(column) or column.num_chunks == 0:
        return column.combine_chunks()
    values, start = scratch.empty(len(column), column.chunk(0).to_numpy().dtype), 0
    for chunk in column.chunks:
        values[start : start + len(chunk)] = chunk.to_numpy()
        start += len(chunk)
    return pa.array(values, column.type)


def is_plain(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether it is of numbers, without nulls."""
    kind = column.type
    return (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not column.null_count


def taken(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """The values at some rows.

    Args:
        column: the values.
        rows: from 0. [rows] int64
    """
    if pa.types.is_dictionary(column.type) and is_plain(column.indices):
        return pa.DictionaryArray.from_arrays(taken(column.indices, rows), column.dictionary)
    if not is_plain(column):
        return column.take(pa.array(rows))
    values = column.to_numpy()
    found = scratch.empty(len(rows), values.dtype)
    # Any other mode would be a copy more; this one lets other threads work meanwhile.
    np.take(values, rows, out=found, mode="clip")
    return pa.array(found, column.type)


def filtered(column: pa.Array, keep: np.ndarray, count: int) -> pa.Array:
    """The values that are to be kept.

    Args:
        column: the values.
        keep: [values] bool
        count: how many that is.
    """
    if pa.types.is_dictionary(column.type) and is_plain(column.indices):
        return pa.DictionaryArray.from_arrays(filtered(column.indices, keep, count), column.dictionary)
    if not is_plain(column):
        return column.filter(pa.array(keep))
    values = column.to_numpy()
    return pa.array(_filtered(values, keep, scratch.empty(count, values.dtype)), column.type)


@compiled
def _filtered(values: np.ndarray, keep: np.ndarray, found: np.ndarray) -> np.ndarray:
    place = 0
    for row in range(len(values)):
        if keep[row]:
            found[place] = values[row]
            place += 1
    return found


def lists_taken(lists: pa.ListArray, rows: np.ndarray) -> pa.ListArray:
    """The lists at some rows: what `take` gives, with offsets from 0.

    Args:
        lists: without nulls, of fewer than 2^31 values.
        rows: from 0. [rows] int64
    """
    values = lists.values
    if not is_plain(values):
        return lists.take(pa.array(rows))
    bounds = lists.offsets.to_numpy()
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(np.diff(bounds)[rows], out=offsets[1:])
    plain = values.to_numpy()
    found = scratch.empty(int(offsets[-1]), plain.dtype)
    _lists_taken(
        _read_only(plain).view(np.uint8), plain.itemsize, bounds, rows, offsets, found.view(np.uint8)
    )
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(found, values.type), type=lists.type)


def _read_only(values: np.ndarray) -> np.ndarray:
    """The same values: to the compiler, arrays that may be written to are of another type."""
    view = values.view()
    view.flags.writeable = False
    return view


@compiled
def _lists_taken(
    values: np.ndarray,
    width: int,
    bounds: np.ndarray,
    rows: np.ndarray,
    offsets: np.ndarray,
    found: np.ndarray,
) -> None:
    """Copy lists, byte by byte: code for one type of values serves all."""
    for place in range(len(rows)):
        begin, to = np.int64(bounds[rows[place]]) * width, np.int64(offsets[place]) * width
        for byte in range(np.int64(offsets[place + 1] - offsets[place]) * width):
            found[to + byte] = values[begin + byte]
