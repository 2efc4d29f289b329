"""Dictionary-encoded columns: codes and the distinct values they stand for.

Items and text are encoded once, where sequences are built; sorting, filtering, counting and indexing then
work on 32-bit codes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.runtime import scratch
from behavior.runtime.compiled import compiled

_ROWS_AT_ONCE = 1 << 18


def encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """A column with its distinct values in a dictionary, in the order in which they first come.

    Chunks are encoded one by one, so that text of more than 2 GiB fits.
    """
    if isinstance(column, pa.Array):
        return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    if column.num_chunks == 0:
        kind = column.type
        values = pa.array([], kind.value_type if pa.types.is_dictionary(kind) else kind)
        return values.dictionary_encode()
    if 4 * len(column) > scratch.LARGE_BYTES and not column.null_count:
        return _encoded_by_parts(column)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    else:
        column = column.dictionary_encode()
    # All chunks now have one dictionary; Arrow's own way to combine them would merge it once more.
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks]).combine_chunks()
    return pa.DictionaryArray.from_arrays(indices, column.chunk(0).dictionary)


def _encoded_by_parts(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """`encoded`, with the distinct values of some parts of the column in memory at a time.

    Args:
        column: without nulls.
    """
    codes = scratch.empty(len(column), np.int32)
    known = column.chunk(0).slice(0, 0)
    known = known.dictionary if pa.types.is_dictionary(column.type) else known
    done, waiting, held = 0, list[tuple[np.ndarray, pa.Array]](), 0
    for chunk in column.chunks:
        for first in range(0, len(chunk), _ROWS_AT_ONCE):
            part = encoded(chunk.slice(first, _ROWS_AT_ONCE))
            own = codes[done : done + len(part)]
            own[:] = part.indices.to_numpy()
            done += len(part)
            waiting.append((own, part.dictionary))
            held += len(part.dictionary)
            # As many as are known: each is looked up a few times, however many parts there are.
            if held >= max(_ROWS_AT_ONCE, len(known)):
                known, waiting, held = _unified(known, waiting), [], 0
    return pa.DictionaryArray.from_arrays(pa.array(codes), _unified(known, waiting))


def _unified(known: pa.Array, parts: list[tuple[np.ndarray, pa.Array]]) -> pa.Array:
    """Known values, and those of parts in the order in which they first come; the parts' codes then stand for
    them."""
    if not parts:
        return known
    # Arrow drops chunks without values: `known` may be one, and no part is.
    places = pa.chunked_array([known, *(values for _, values in parts)]).dictionary_encode()
    for (codes, _), place in zip(parts, places.chunks[-len(parts) :], strict=True):
        look_up(place.indices.to_numpy(), codes, codes)
    return places.chunk(0).dictionary


def codes_of(values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes and distinct values; -1 stands for null. [values] int32

    The dictionary may hold values that do not occur.
    """
    array = encoded(values)
    indices = array.indices
    if indices.null_count:
        indices = indices.fill_null(-1)
    return indices.to_numpy().astype(np.int32, copy=False), array.dictionary


def looked_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`table[codes]`; a large one lies in a file (`behavior.runtime.scratch`).

    Args:
        table: [distinct]
        codes: from 0. [values] int32
    """
    found = scratch.empty(len(codes), table.dtype)
    look_up(table, codes, found)
    return found


@compiled
def look_up(table: np.ndarray, codes: np.ndarray, found: np.ndarray) -> None:
    """`found[:] = table[codes]`; compiled, since numpy's own holds Python's lock while other workers wait."""
    for place in range(len(codes)):
        found[place] = table[codes[place]]
