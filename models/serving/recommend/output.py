"""Files of recommendations: written as they are made, and in place only when they are whole."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

from behavior.errors import UsageError, UserError
from behavior.files import check_local
from behavior.sources.blocks import compression_of
from behavior.sources.kinds import kind_of
from behavior.sources.replace import check_replaceable
from models.serving.recommend.values import rows_of

Write = Callable[[pa.RecordBatch], None]

COLUMNS = ("user", "rank", "item", "score", "answer")
"""Of all recommendations."""


def check_out(path: Path, flag: str = "--out") -> None:
    """Say what is wrong with the name of a file before anything is computed.

    Raises:
        UsageError: the name says no kind of file, or one that is not written.
        UserError: it is an address, there is no such folder, or there is something that is not
            recommendations.
    """
    check_local(path, flag)
    kind = kind_of(path, flag)
    if kind == "parquet" and compression_of(path.name, "auto") is not None:
        raise UsageError(
            f"'{path}' would be compressed twice: Parquet is by itself", where=flag, fix="name it .parquet"
        )
    if not path.absolute().parent.is_dir():
        raise UserError(f"there is no folder '{path.parent}'", where=flag, fix="make it first")
    check_replaceable(path, kind, COLUMNS, flag)


def write_batches(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """Write batches to a file, whole or not at all; compressed, where its name ends in .gz or .zst.

    Returns:
        The number of rows.

    Raises:
        UserError: it cannot be written.
    """
    check_out(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    rows = 0
    try:
        with (
            _opened(temporary, compression_of(path.name, "auto")) as file,
            _writer(kind_of(path, "--out"), file) as write,
        ):
            for batch in batches:
                write(batch)
                rows += batch.num_rows
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be written: {error.strerror or error}", where="--out", fix="check the folder"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return rows


@contextmanager
def _opened(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    with open(path, "wb") as file:
        if compression is None:
            yield file
            return
        with pa.CompressedOutputStream(file, compression) as compressed:
            yield compressed


@contextmanager
def _writer(kind: str, file: IO[bytes]) -> Iterator[Write]:
    if kind == "jsonl":
        yield lambda batch: _json_lines(batch, file)
        return
    opened: list[pq.ParquetWriter | csv.CSVWriter] = []

    def write(batch: pa.RecordBatch) -> None:
        given = batch if kind == "parquet" else _flat(batch)
        if not opened:
            opened.append(_open(kind, file, given.schema))
        opened[0].write_batch(given)

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()


def _open(kind: str, file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter | csv.CSVWriter:
    if kind == "parquet":
        return pq.ParquetWriter(file, schema, compression="zstd")
    return csv.CSVWriter(
        file, schema, write_options=csv.WriteOptions(delimiter="," if kind == "csv" else "\t")
    )


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Without lists, which a line has no room for: their values stand in one, with | between."""
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "|")
        columns[name] = column
    return pa.RecordBatch.from_pydict(columns)


def _json_lines(batch: pa.RecordBatch, file: IO[bytes]) -> None:
    lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows_of(batch)]
    file.write("".join(lines).encode())
