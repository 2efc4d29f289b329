"""One entry to all readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from behavior.errors import UserError
from behavior.sources.blocks import compression_of, iter_blocks
from behavior.sources.delimited import DelimitedReader
from behavior.sources.jsonl import JsonLinesReader, as_text
from behavior.sources.lines import SequenceLinesReader
from behavior.sources.parquet import check_flat, read_row_groups
from behavior.sources.plan import Chunk, check_columns, expand, file_columns
from behavior.sources.raw import RawBatch, Reject
from behavior.spec import FeatureTable, FileFormat


def read_chunk(
    form: FileFormat, chunk: Chunk, columns: list[str], lists: set[str] | None = None
) -> Iterator[RawBatch]:
    """Read one chunk in file order.

    Args:
        form: how the file is written.
        chunk: which part of which file.
        columns: the columns to read (`sequences` always gives `user` and `item`).
        lists: JSON lines: the columns that hold lists.

    Yields:
        raw batches; lines are counted from the start of the chunk, 1 being the first (a header counts).

    Raises:
        UserError: the file is missing, lacks a column, or cannot be read to its end.
    """
    if form.kind == "parquet":
        check_columns(form, columns, chunk.path)
        check_flat(chunk.path, columns, lists or set())
        groups = None if chunk.end is None else list(range(chunk.start, chunk.end))
        yield from read_row_groups(chunk.path, groups, columns)
        return
    check_columns(form, columns, chunk.path)
    reader = _text_reader(form, chunk.path, columns, lists or set())
    compression = compression_of(chunk.path, form.compression)
    skip_header = form.kind == "csv" and form.header and chunk.start == 0
    lines = 0
    for block in iter_blocks(chunk.path, compression, chunk.start, chunk.end):
        if skip_header:
            block, skip_header, lines = block.partition(b"\n")[2], False, 1
        batch = reader.read(block)
        yield replace(
            batch,
            places=batch.places + lines,
            rejects=[(place + lines, reason, text) for place, reason, text in batch.rejects],
            lines=lines + batch.lines,
        )
        lines += batch.lines


def _text_reader(
    form: FileFormat, path: str, columns: list[str], lists: set[str]
) -> DelimitedReader | JsonLinesReader | SequenceLinesReader:
    if form.kind == "sequences":
        return SequenceLinesReader(form.field_separator, form.encoding)
    if form.kind == "jsonl":
        return JsonLinesReader(columns, lists, form.encoding)
    names = file_columns(form, path) or []
    return DelimitedReader(names, columns, form.field_separator, form.quote, form.encoding)


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
    lists = {feature.source_column for feature in table.features if feature.kind == "multi_categorical"}
    columns = list(dict.fromkeys([table.id, *(feature.source_column for feature in table.features)]))
    parts: list[pa.Table] = []
    rejects: list[Reject] = []
    for index, file in enumerate(files):
        chunk = Chunk(0, index, 0, file.path, 0, None)
        for batch in read_chunk(table, chunk, columns, lists):
            parts.append(_select(batch, table))
            rejects += [Reject(file.name, place, reason, text) for place, reason, text in batch.rejects]
    if not any(part.num_rows for part in parts):
        raise UserError("the table is empty", where=", ".join(file.path for file in files))
    try:
        return pa.concat_tables(parts, promote_options="permissive"), rejects
    except pa.ArrowException as error:
        where = ", ".join(file.path for file in files)
        raise UserError(f"the files of a table do not go together: {error}", where=where) from None


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
    data = b"".join(iter_blocks(path, compression_of(path, table.compression)))
    kind = pa.list_(pa.string())
    try:
        record = json.loads(data)
        if not isinstance(record, dict):
            raise UserError("one JSON object of id to list of attributes was expected", where=path)
        ids = [as_text(name, pa.string()) for name in record]
        values = [as_text(value, kind) for value in record.values()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is not JSON: {error}", where=path) from None
    return pa.table({"id": pa.array(ids, pa.string()), table.features[0].name: pa.array(values, kind)})
