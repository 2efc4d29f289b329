"""Parquet row groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from behavior.sources.damage import SKIP_HINT, UnreadableFileError
from behavior.sources.raw import RawBatch
from behavior.wording import number_of

BATCH_ROWS = 1 << 19
# What a damaged file may raise: Thrift, the codecs, text that is none, sizes that are nonsense.
_ERRORS = (OSError, pa.ArrowException, ValueError, OverflowError, KeyError, IndexError)
# Arrow has one error, without a number, for all that its Parquet reader finds wrong, and now and then for the
# storage beneath; only words tell those from each other.
_STORAGE = re.compile(
    r"\[errno|input/output error|timed? ?out|connection|reset by peer|unavailable|throttl|slow ?down|busy"
    r"|server|network|curl|http|credential|permission|access denied",
    re.IGNORECASE,
)

_INSTANTS = (
    *(pa.types.is_timestamp, pa.types.is_date, pa.types.is_integer, pa.types.is_floating),
    *(pa.types.is_decimal, pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
    pa.types.is_null,
)


def is_damage(error: Exception) -> bool:
    """Whether an error speaks of the file's content, rather than of reading it now (storage, memory)."""
    if isinstance(error, MemoryError | pa.ArrowCancelled):
        return False
    if isinstance(error, OSError):
        # Its subclasses are the system's: time-outs, connections, permissions.
        return type(error) is OSError and error.errno is None and _STORAGE.search(str(error)) is None
    return isinstance(error, _ERRORS)


def _never_readable(error: Exception) -> bool:
    forbidden = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
    return forbidden or str(error).endswith("is a directory")


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a local or remote Parquet file.

    Raises:
        UnreadableFileError: there is no such file, it may not be read, or it is not Parquet.
        OSError, MemoryError: it cannot be read now; trying again may help.
    """
    try:
        file = pq.ParquetFile(path if "://" not in path else fsspec.open(path, "rb").open())
        _ = file.schema_arrow.names  # a name that is no text would be met later
        return file
    except FileNotFoundError:
        raise UnreadableFileError(
            f"there is no file '{path}'", fix=f"check the path in the spec; {SKIP_HINT}"
        ) from None
    except _ERRORS as error:
        if not is_damage(error) and not _never_readable(error):
            raise
        raise UnreadableFileError(
            f"'{path}' is not a Parquet file that can be read: {error}",
            fix=f"get the file again; {SKIP_HINT}",
        ) from error


def row_group_sizes(file: pq.ParquetFile, path: str) -> tuple[int, ...]:
    """Bytes of each row group, uncompressed.

    Raises:
        UnreadableFileError: the footer is nonsense.
        MemoryError: there is no memory for it.
    """
    try:
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        sizes = tuple(group.total_byte_size for group in groups)
        if min((*sizes, *(group.num_rows for group in groups)), default=0) < 0:
            raise ValueError("a size is negative")
    except _ERRORS as error:
        if not is_damage(error):
            raise
        raise UnreadableFileError(
            f"'{path}' has a footer that makes no sense: {error}", fix=f"get the file again; {SKIP_HINT}"
        ) from error
    return sizes


def check_flat(schema: pa.Schema, path: str, columns: list[str], lists: set[str]) -> None:
    """Check that columns hold single values, or where `lists` names them perhaps lists of single values.

    Raises:
        UnreadableFileError: naming the column and its type.
    """
    for name in columns:
        if len(schema.get_all_field_indices(name)) > 1:
            raise UnreadableFileError(
                f"there are several columns '{name}'", where=path, fix="give each a name of its own"
            )
        kind = schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if pa.types.is_nested(kind.value_type if is_list and name in lists else kind):
            raise UnreadableFileError(
                f"the column '{name}' holds {kind}, not {'lists of ' if name in lists else ''}single values",
                where=path,
                fix="the kind multi_categorical reads lists, in tables"
                if is_list and not lists.intersection([name])
                else "write it as a plain column",
            )


def check_instants(schema: pa.Schema, path: str, columns: list[str]) -> None:
    """Check that the columns of a timestamp hold instants, or what may be some: numbers, text.

    Args:
        schema: of the file.
        path: the file.
        columns: one; or two, of the date and of the time of day.

    Raises:
        UnreadableFileError: naming the column and its type, such as a time of day or a duration.
    """
    for name in columns:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        of_day = pa.types.is_time(kind)
        if any(test(kind) for test in _INSTANTS) or (of_day and len(columns) > 1):
            continue
        what = ", a time of day" if of_day else ""
        more = ", or name the column of the date beside it: timestamp: [date, time]" if of_day else ""
        raise UnreadableFileError(
            f"the column '{name}' holds {kind}{what}, not instants",
            where=path,
            fix=f"write it as integers, text, timestamps or dates{more}",
        )


def read_row_groups(file: pq.ParquetFile, groups: list[int] | None, columns: list[str]) -> Iterator[RawBatch]:
    """Raw batches of some row groups (all where `groups` is None); places are rows within a row group.

    A batch never spans two row groups; `RawBatch.lines` is 0, since rows are numbered absolutely. What
    is damaged of a row group becomes one reject, and the next row group is read.

    Raises:
        OSError, MemoryError: the file cannot be read now; trying again may help.
    """
    for group in range(file.num_row_groups) if groups is None else groups:
        row = 0
        try:
            expected = file.metadata.row_group(group).num_rows
            for batch in file.iter_batches(
                BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False
            ):
                raw = _raw(batch, columns, row, group)
                row += batch.num_rows
                if row > expected:
                    raise ValueError(f"there are more than {number_of(expected, 'row')}")
                yield raw
            if row < expected:
                raise ValueError(
                    f"there {'is' if row == 1 else 'are'} {number_of(row, 'row')} where the footer says "
                    f"{expected:,}"
                )
        except _ERRORS as error:
            if not is_damage(error):
                raise
            yield _lost(columns, row, group, error)


def _lost(columns: list[str], row: int, group: int, error: Exception) -> RawBatch:
    reason = f"the row group is damaged here: what follows in it is lost: {error}"
    return RawBatch(
        {name: pa.array([], pa.string()) for name in columns},
        np.zeros(0, np.int64),
        lambda index: "",
        [(row, reason, "")],
        row_group=group,
        damaged=reason,
    )


def _raw(batch: pa.RecordBatch, columns: list[str], row: int, group: int) -> RawBatch:
    arrays = {name: _plain(batch.column(name)) for name in columns}
    return RawBatch(
        arrays,
        np.arange(row, row + batch.num_rows),
        lambda index: str({name: _value(array, index) for name, array in arrays.items()}),
        row_group=group,
    )


def _value(array: pa.Array, index: int) -> Any:
    """A value as Python has it, or as Arrow writes it where Python has none (the year 12,000, say)."""
    try:
        return array[index].as_py()
    except (ValueError, OverflowError):
        return str(array.slice(index, 1))


def _plain(array: pa.Array) -> pa.Array:
    """Without the types with which other libraries write text; text that is none as bytes.

    Text in a dictionary stays there: what is asked of its few values need not be asked of every row.

    Raises:
        pyarrow.ArrowInvalid: the array is broken, so that looking at its values might crash.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array.validate()
        _check_indices(array)
        if pa.types.is_string(array.type.value_type):
            words = _plain(array.dictionary)
            if pa.types.is_string(words.type):
                return pa.DictionaryArray.from_arrays(array.indices, words)
        array = array.dictionary_decode()
    plain = {"large_string": pa.string(), "string_view": pa.string()}
    plain |= {"large_binary": pa.binary(), "binary_view": pa.binary()}
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        if not pa.types.is_string(array.type) and not pa.types.is_large_string(array.type):
            raise
        array = array.view(pa.binary() if pa.types.is_string(array.type) else pa.large_binary())
        array.validate(full=True)
    return array.cast(plain[str(array.type)]) if str(array.type) in plain else array


def _check_indices(array: pa.DictionaryArray) -> None:
    """A damaged index would have Arrow read beside the dictionary."""
    indices = array.indices.drop_null().to_numpy()
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(array.dictionary):
        raise pa.ArrowInvalid("a dictionary index is out of bounds")
