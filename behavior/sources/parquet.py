"""Parquet row groups."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavior.errors import UserError
from behavior.sources.raw import RawBatch

BATCH_ROWS = 1 << 19


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a local or remote Parquet file.

    Raises:
        UserError: there is no such file, or it is not Parquet.
    """
    try:
        return pq.ParquetFile(path if "://" not in path else fsspec.open(path, "rb").open())
    except FileNotFoundError:
        raise UserError(f"there is no file '{path}'", fix="check the path in the spec") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"'{path}' is not a Parquet file that can be read: {error}") from error


def check_flat(path: str, columns: list[str], lists: set[str]) -> None:
    """Check that columns hold single values, or where `lists` names them perhaps lists of single values.

    Raises:
        UserError: naming the column and its type.
    """
    with open_parquet(path) as file:
        schema = file.schema_arrow
    for name in columns:
        kind = schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if pa.types.is_nested(kind.value_type if is_list and name in lists else kind):
            raise UserError(
                f"the column '{name}' holds {kind}, not {'lists of ' if name in lists else ''}single values",
                where=path,
                fix="write it as a plain column",
            )


def read_row_groups(path: str, groups: list[int] | None, columns: list[str]) -> Iterator[RawBatch]:
    """Raw batches of some row groups (all where `groups` is None); places are rows within a row group.

    A batch never spans two row groups; `RawBatch.lines` is 0, since rows are numbered absolutely.
    """
    with open_parquet(path) as file:
        for group in range(file.num_row_groups) if groups is None else groups:
            row = 0
            try:
                for batch in file.iter_batches(
                    BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
                ):
                    yield _raw(batch, columns, row, group)
                    row += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"row group {group} cannot be read: {error}", where=path) from error


def _raw(batch: pa.RecordBatch, columns: list[str], row: int, group: int) -> RawBatch:
    arrays = {name: _plain(batch.column(name)) for name in columns}
    return RawBatch(
        arrays,
        np.arange(row, row + batch.num_rows),
        lambda index: str({name: array[index].as_py() for name, array in arrays.items()}),
        row_group=group,
    )


def _plain(array: pa.Array) -> pa.Array:
    """Without dictionaries and the types with which other libraries write text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    plain = {"large_string": pa.string(), "string_view": pa.string()}
    plain |= {"large_binary": pa.binary(), "binary_view": pa.binary()}
    return array.cast(plain[str(array.type)]) if str(array.type) in plain else array
