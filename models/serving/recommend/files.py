"""Files of histories and of ids: Parquet, JSON lines, CSV, as batches of rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.json
import pyarrow.parquet as pq

from behavior.errors import UsageError, UserError
from behavior.files import check_readable
from behavior.sources.histories import (
    NO_USER,
    USER,
    HistoryColumns,
    find_histories,
    read_history_rows,
    refusal,
    users_of,
)
from behavior.sources.kinds import kind_of
from behavior.sources.raw import Reject
from models.serving.recommend.values import text_of_ids

_BLOCK = 16 << 20
_ROWS = 1 << 16


def read_histories(path: str, columns: HistoryColumns) -> Iterator[pa.RecordBatch]:
    """Rows of histories, some at a time.

    Args:
        path: of a file, a folder or a glob; local, or a URL.
        columns: that they need, and may have.

    Raises:
        UserError: there is no such file, it lacks a column, or a row cannot be read.
    """
    files = find_histories(path, columns)
    integers = bool(files) and all(file.integers for file in files)
    for number, file in enumerate(files):
        for chunk in file.chunks(number, max(1, file.size) if file.groups is None else _BLOCK):
            for batch in read_history_rows(file, chunk, columns):
                for place, reason, _ in batch.rejects[:1]:
                    what, fix = refusal(file.kind, reason)
                    where = Reject(file.name, place, reason, "", batch.row_group).where
                    raise UserError(what, where=where, fix=fix)
                users, there = users_of(batch, integers=integers)
                for row in np.flatnonzero(~there.to_numpy(zero_copy_only=False))[:1]:
                    where = Reject(file.name, int(batch.places[row]), NO_USER, "", batch.row_group).where
                    raise UserError(NO_USER, where=where, fix="give every row a user")
                yield pa.RecordBatch.from_pydict({**batch.columns, USER: users})


def read_batches(path: str | PathLike[str], flag: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, some at a time.

    Args:
        path: of a local file.
        flag: that names it, for errors.

    Raises:
        UserError: it cannot be read, or not as what its name says.
    """
    kind = kind_of(path, flag)
    check_readable(path, flag)
    readers = {"parquet": _parquet, "jsonl": _json_lines}
    try:
        if kind in readers:
            yield from readers[kind](Path(path))
        else:
            yield from _delimited(Path(path), "," if kind == "csv" else "\t")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
        if isinstance(error, pa.ArrowInvalid) and "Empty CSV" in str(error):
            raise UserError("the file is empty", where=str(path), fix="name a file that has rows") from None
        first = str(error).partition("\n")[0]
        raise UserError(
            f"it cannot be read as {kind}: {first}", where=str(path), fix="check the file"
        ) from None


def read_table(path: str | PathLike[str], flag: str, others: Sequence[str] = ()) -> pa.Table:
    """A file of items and what is told about them, whose ids are in a column `item`.

    Args:
        path: of the file.
        flag: that names it, for errors.
        others: what the column may be called as well.

    Raises:
        UserError: it cannot be read, or has no such column.
    """
    batches = list(read_batches(path, flag))
    names = batches[0].schema.names if batches else []
    own = next((name for name in ("item", *others) if name in names), None)
    if own is None:
        or_else = "".join(f" or '{name}'" for name in dict.fromkeys(others))
        raise UserError(
            f"there is no column 'item'{or_else}, only {', '.join(names) or 'none at all'}",
            where=str(path),
            fix="name the column of ids 'item'",
        )
    return pa.Table.from_batches(batches).rename_columns(["item" if n == own else n for n in names])


def read_ids(path: str | PathLike[str], column: str, flag: str) -> pa.Array:
    """The ids in a file: of a text file one a line, of a table those of the column of that name.

    Of Parquet and JSON lines, whose columns always have names, the only column will do.

    Raises:
        UserError: it cannot be read, has no such column or no ids, or one of them is none.
    """
    if kind := _kind_of_table(path):
        parts = []
        for batch in read_batches(path, flag):
            names = batch.schema.names
            if column not in names and (len(names) > 1 or kind in ("csv", "tsv")):
                raise UserError(
                    f"there is no column '{column}', only {', '.join(names)}",
                    where=str(path),
                    fix=f"name the column of ids '{column}'"
                    + (", or the file .txt, with one id a line and no header" if len(names) == 1 else ""),
                )
            parts.append(batch.column(column if column in names else names[0]))
        found = pa.chunked_array(parts).combine_chunks() if parts else pa.array([], pa.string())
    else:
        check_readable(path, flag)
        try:
            with pa.input_stream(str(path), compression="detect") as file:
                lines = file.read().decode("utf-8-sig").split("\n")  # other breaks may stand in ids
        except (UnicodeDecodeError, OSError) as error:
            raise UserError(f"it is no text: {error}", where=str(path), fix="one id a line") from None
        found = pa.array([line.strip() for line in lines if line.strip()], pa.string())
    if not len(found):
        raise UserError("the file has no ids", where=str(path), fix="one id a line, or a column of them")
    text_of_ids(found, column, str(path))
    return found


def _kind_of_table(path: str | PathLike[str]) -> str | None:
    """None: it is a text file."""
    try:
        return kind_of(path, "")
    except UsageError:
        return None


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS)


def _json_lines(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.input_stream(str(path), compression="detect") as source:
        rest = b""
        while block := source.read(_BLOCK):
            whole, mark, rest = (rest + block).rpartition(b"\n")
            if mark and whole.strip():
                yield from _parsed(whole)
        if rest.strip():
            yield from _parsed(rest)


def _parsed(lines: bytes) -> Iterator[pa.RecordBatch]:
    # In one block: a line may be as long as the longest history.
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    yield from pyarrow.json.read_json(io.BytesIO(lines), options).to_batches()


def _delimited(path: Path, delimiter: str) -> Iterator[pa.RecordBatch]:
    parse = csv.ParseOptions(delimiter=delimiter)
    read = csv.ReadOptions(use_threads=False)
    with csv.open_csv(path, read_options=read, parse_options=parse) as head:
        names = head.schema.names
    # Ids stay text: 007 is not 7.
    convert = csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, strings_can_be_null=False
    )
    with csv.open_csv(path, read_options=read, parse_options=parse, convert_options=convert) as reader:
        yield from reader
