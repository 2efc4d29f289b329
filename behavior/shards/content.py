"""A digest of what a table says, whatever file it stands in.

The bytes of a Parquet file follow its writer: the version of pyarrow, the compression, the row groups. That
two data sets are the same can only be told by their values.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def content_digest(table: pa.Table) -> str:
    """SHA-256, in hexadecimal, of a table's column names, types and values, row by row in their order.

    Chunks, slices, metadata and what lies under nulls do not matter, nor do the names of lists' elements.
    Floats count by their bits: 0 and -0 are two values.

    Args:
        table: of columns of booleans, numbers and strings, and of lists of them.

    Raises:
        TypeError: a column is of another type.
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{len(name)} {name} {_column_digest(column)}\n".encode())
    return digest.hexdigest()


def _column_digest(column: pa.ChunkedArray) -> str:
    """Of the type, what is null, and the values: each goes to a digest of its own, past the chunks' ends."""
    valid = hashlib.sha256()
    if column.null_count:
        for chunk in column.chunks:
            valid.update(_bytes(chunk.is_valid().cast(pa.uint8())))
    said = f"{len(column)} {valid.hexdigest()}"
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        elements = pa.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type)
        said += f" list {_values_digest(_lengths(column))} {_column_digest(elements)}"
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        said += f" string {_values_digest(_lengths(column))} {_text_digest(column)}"
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        said += f" {kind} {_values_digest(column)}"
    else:
        raise TypeError(f"the content of a column of type {kind} has no digest")
    return hashlib.sha256(said.encode()).hexdigest()


def _lengths(column: pa.ChunkedArray) -> pa.ChunkedArray:
    measure = pc.list_value_length if pa.types.is_nested(column.type) else pc.binary_length
    return measure(column).cast(pa.int64())


def _values_digest(column: pa.ChunkedArray) -> str:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    digest = hashlib.sha256()
    for chunk in column.chunks:
        digest.update(_bytes(chunk.fill_null(0) if chunk.null_count else chunk))
    return digest.hexdigest()


def _bytes(numbers: pa.Array) -> memoryview:
    """The numbers as little-endian bytes, without a copy where the machine has them so."""
    values = numbers.to_numpy(zero_copy_only=True)
    return memoryview(values.astype(values.dtype.newbyteorder("<"), copy=False)).cast("B")


def _text_digest(column: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    for chunk in column.chunks:
        whole = chunk.fill_null("") if chunk.null_count else chunk
        width = np.int64 if pa.types.is_large_string(whole.type) else np.int32
        _, offsets, text = whole.buffers()
        if text is not None and len(whole):
            ends = np.frombuffer(offsets, width)[whole.offset : whole.offset + len(whole) + 1]
            digest.update(memoryview(text)[ends[0] : ends[-1]])
    return digest.hexdigest()
