"""One entry to all readers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from behavior.arrow.conditions import holding, trimmed
from behavior.errors import UserError
from behavior.sources.blocks import TextFile, compression_of, iter_blocks, read_bytes
from behavior.sources.chunks import Chunk
from behavior.sources.damage import DamagedFileError, UnreadableFileError, unreadable
from behavior.sources.delimited import DelimitedReader, MultilineReader
from behavior.sources.explode import exploded
from behavior.sources.files import expand
from behavior.sources.jsonl import IS_LIST, JsonLinesReader, as_text
from behavior.sources.lines import ITEM, USER, SequenceLinesReader
from behavior.sources.look import columns_of_parquet, columns_of_text
from behavior.sources.parquet import open_parquet, read_row_groups
from behavior.sources.raw import RawBatch, Reject
from behavior.spec.dataset_spec import EventSource, FeatureTable, FileFormat


class _Reader(Protocol):
    def read(self, block: bytes) -> RawBatch: ...


def read_chunk(
    form: FileFormat,
    chunk: Chunk,
    columns: list[str],
    lists: Mapping[str, str | None] | None = None,
    integers: set[str] | None = None,
) -> Iterator[RawBatch]:
    """Read one chunk in file order.

    Args:
        form: how the file is written.
        chunk: which part of which file.
        columns: the columns to read (`sequences` always gives `user` and `item`).
        lists: the columns that may hold lists (JSON lines and Parquet), each with its feature's separator.
        integers: the columns that are wanted as integers and as nothing else: delimited text gives them
            as int64 from the blocks in which all their values are, without how they were written (007).

    Yields:
        raw batches; lines are counted from the start of the chunk, 1 being the first (a header counts).
        What a damaged file loses is one reject, in a batch whose `damaged` says why.

    Raises:
        UnreadableFileError: the file is missing, lacks a column, or nothing of it can be read.
    """
    try:
        if form.kind == "parquet":
            batches = _read_parquet(form, chunk, columns, lists or {})
        else:
            batches = _read_text(form, chunk, columns, lists or {}, integers or set())
        for batch in batches:
            yield _as_asked(form, batch)
    except UnreadableFileError as error:
        raise error.with_hint() from error


def _as_asked(form: FileFormat, batch: RawBatch) -> RawBatch:
    """A batch trimmed, a row an event, and with the rows that the spec wants."""
    if form.trim:
        batch = replace(batch, columns={name: trimmed(column) for name, column in batch.columns.items()})
    if isinstance(form, EventSource) and form.explode is not None:
        batch = exploded(batch, form.explode)
    if form.where:
        kept = holding(form.where, batch.columns, batch.num_rows)
        batch = batch if kept.all() else batch.keep(kept)
    return batch


def _read_parquet(
    form: FileFormat, chunk: Chunk, columns: list[str], lists: Mapping[str, str | None]
) -> Iterator[RawBatch]:
    with open_parquet(chunk.path) as file:
        columns_of_parquet(file, form, columns, chunk.path, set(lists))
        groups = None if chunk.end is None else list(range(chunk.start, chunk.end))
        if chunk.end is not None and chunk.end > file.num_row_groups:
            raise unreadable(chunk.path, "it has fewer row groups than it had before", "run again")
        yield from read_row_groups(file, groups, columns)


def _read_text(
    form: FileFormat, chunk: Chunk, columns: list[str], lists: Mapping[str, str | None], integers: set[str]
) -> Iterator[RawBatch]:
    compression = compression_of(chunk.path, form.compression)
    with TextFile(chunk.path, compression) as file:
        names = columns_of_text(file, form, columns)
        lines = 0 if chunk.start else file.lines
        if not names and form.kind == "csv":
            return  # an empty file among others is no error; an empty log is found by the plan
        reader = _text_reader(form, names, columns, lists, integers)
        if lines:
            yield _placed(reader.read(b""), lines)  # a chunk may end with its header, whose lines count
        try:
            for block in iter_blocks(file, compression, chunk.start, chunk.end):
                batch = _placed(reader.read(block), lines)
                lines = batch.lines
                yield batch
            if isinstance(reader, MultilineReader):
                yield _placed(reader.finish(), lines)
        except DamagedFileError as error:
            tail = error.tail.decode(form.encoding, errors="replace")
            if isinstance(reader, MultilineReader):
                tail = reader.rest.decode(errors="replace") + tail
            yield _lost(columns, lines, error.reason, tail)


def _placed(batch: RawBatch, lines: int) -> RawBatch:
    """A batch with its lines counted from the start of the chunk, of which `lines` are before it."""
    return replace(
        batch,
        places=batch.places + lines,
        rejects=[(place + lines, reason, text) for place, reason, text in batch.rejects],
        lines=lines + batch.lines,
    )


def _lost(columns: list[str], lines: int, reason: str, tail: str) -> RawBatch:
    """The batch without rows that says that the rest of a file is lost."""
    return RawBatch(
        {name: pa.array([], pa.string()) for name in columns or (USER, ITEM)},
        np.zeros(0, np.int64),
        lambda index: "",
        [(lines + 1, reason, tail.rstrip("\r\n"))],
        lines=lines + 1,
        damaged=reason,
    )


def _text_reader(
    form: FileFormat,
    names: list[str],
    columns: list[str],
    lists: Mapping[str, str | None],
    integers: set[str],
) -> _Reader:
    if form.kind == "sequences":
        return SequenceLinesReader(form.field_separator, form.encoding)
    if form.kind == "jsonl":
        return JsonLinesReader(columns, lists, form.encoding)
    if form.multiline:
        assert form.quote is not None
        return MultilineReader(names, columns, form.field_separator, form.quote, form.encoding, integers)
    return DelimitedReader(names, columns, form.field_separator, form.quote, form.encoding, integers)


def read_whole_table(table: FeatureTable, base: str) -> tuple[pa.Table, list[Reject]]:
    """Read an item or user table.

    Returns:
        The table: `id` (text or integer as stored) and one column a feature, still raw; and the rows that
        could not be read.

    Raises:
        UserError: a file is missing, lacks a column or cannot be read.
    """
    files = expand(table, base)
    if table.kind == "json_map":
        return pa.concat_tables([_read_json_map(table, file.path) for file in files]), []
    assert table.id is not None
    lists = _separators(table)
    columns = table.needed_columns()
    parts: list[pa.Table] = []
    rejects: list[Reject] = []
    for index, file in enumerate(files):
        chunk = Chunk(0, index, 0, file.path, 0, None)
        for batch in _table_batches(table, chunk, columns, lists):
            if batch.num_rows:
                parts.append(_select(batch, table))
            rejects += [Reject(file.name, *reject, batch.row_group) for reject in batch.rejects]
            _refuse_lists(rejects)
    if not parts:
        raise UserError("the table is empty", where=", ".join(file.path for file in files))
    try:
        return pa.concat_tables(parts, promote_options="permissive"), rejects
    except pa.ArrowException as error:
        where = ", ".join(file.path for file in files)
        raise UserError(f"the files of a table do not go together: {error}", where=where) from None


def _refuse_lists(rejects: list[Reject]) -> None:
    """
    Raises:
        UserError: a row was rejected because it holds a list, which is no fault of the row.
    """
    for reject in rejects:
        if reject.reason.endswith(IS_LIST):
            raise UserError(
                reject.reason,
                where=reject.where,
                fix="give its feature the kind multi_categorical in the spec, which reads lists",
            )


def _separators(table: FeatureTable) -> dict[str, str | None]:
    """Column -> what separates the values of its multi_categorical feature.

    Raises:
        UserError: two features read a column of JSON, which may be text here and a list there, in two ways.
    """
    ways: dict[str, tuple[bool, str | None]] = {}
    for feature in table.features:
        several = feature.kind == "multi_categorical"
        way = (several, feature.list_separator if several else None)
        if ways.setdefault(feature.source_column, way) != way and table.kind == "jsonl":
            raise UserError(
                f"two features read the column '{feature.source_column}' in two ways",
                fix="give them the same kind and separator, or a column each",
            )
    lists = [feature for feature in table.features if feature.kind == "multi_categorical"]
    return {feature.source_column: feature.list_separator for feature in lists}


def _table_batches(
    table: FeatureTable, chunk: Chunk, columns: list[str], lists: Mapping[str, str | None]
) -> Iterator[RawBatch]:
    try:
        yield from read_chunk(table, chunk, columns, lists)
    except UnreadableFileError as error:
        raise error.without_hint() from error  # a table cannot be set aside


def _select(batch: RawBatch, table: FeatureTable) -> pa.Table:
    assert table.id is not None
    columns = {"id": _as_string(batch.columns[table.id])}
    for feature in table.features:
        columns[feature.name] = _as_string(batch.columns[feature.source_column])
    return pa.table(columns)


def _as_string(array: pa.Array) -> pa.Array:
    if not pa.types.is_binary(array.type):
        return array
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        texts = [None if v is None else v.decode("utf-8", errors="replace") for v in array.to_pylist()]
        return pa.array(texts, pa.string())


def _read_json_map(table: FeatureTable, path: str) -> pa.Table:
    kind = pa.list_(pa.string())
    try:
        data = read_bytes(path, compression_of(path, table.compression))
        record = json.loads(data)
        if not isinstance(record, dict):
            raise UserError("one JSON object of id to list of attributes was expected", where=path)
        ids = [as_text(name, pa.string()) for name in record]
        values = [as_text(value, kind, table.features[0].list_separator) for value in record.values()]
    except UnreadableFileError as error:
        raise error.without_hint() from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is not JSON: {error}", where=path) from None
    return pa.table({"id": pa.array(ids, pa.string()), table.features[0].name: pa.array(values, kind)})
