"""Dictionary-encoded columns: codes and the distinct values they stand for.

Items and text are encoded once, where sequences are built; sorting, filtering, counting and indexing then
work on 32-bit codes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.runtime.compiled import compiled


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
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    else:
        column = column.dictionary_encode()
    # All chunks now have one dictionary; Arrow's own way to combine them would merge it once more.
    indices = pa.chunked_array([chunk.indices for chunk in column.chunks]).combine_chunks()
    return pa.DictionaryArray.from_arrays(indices, column.chunk(0).dictionary)


def codes_of(values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes and distinct values; -1 stands for null. [values] int32

    The dictionary may hold values that do not occur.
    """
    array = encoded(values)
    indices = array.indices
    if indices.null_count:
        indices = indices.fill_null(-1)
    return indices.to_numpy().astype(np.int32, copy=False), array.dictionary


@compiled
def looked_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """`table[codes]`; compiled, since numpy's own holds Python's lock while other workers wait.

    Args:
        table: [distinct]
        codes: from 0. [values] int32
    """
    found = np.empty(len(codes), table.dtype)
    for place in range(len(codes)):
        found[place] = table[codes[place]]
    return found
