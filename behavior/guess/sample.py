"""The first rows of a raw file, and how the file is written."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from behavior.errors import UserError
from behavior.files import check_readable
from behavior.guess.names import role_of
from behavior.guess.times import is_time_of_day, written_as
from behavior.sources.blocks import compression_of, iter_blocks
from behavior.sources.jsonl import as_text
from behavior.sources.magic import HEAD_BYTES, is_compression, kind_of_bytes
from behavior.sources.nested import leaves_in
from behavior.sources.parquet import open_parquet

SAMPLE_ROWS = 1000
_MOST_COLUMNS = 60
_SEPARATORS = ("::", "\t", ",", ";", "|", " ")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        path: the file.
        format: csv, jsonl, parquet, sequences or json_map.
        separator, header, encoding, compression: as in the spec; None where the format has none.
        columns: name -> values: strings, or the types of a Parquet file; lists as JSON text.
        lists: names of the columns that hold lists or objects.
        set_compression: whether the file's name does not tell how it is compressed.
    """

    path: Path
    format: str
    separator: str | None
    header: bool | None
    encoding: str
    compression: str | None
    columns: dict[str, pa.Array]
    lists: set[str] = field(default_factory=set)
    set_compression: bool = False

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def kind(self, name: str) -> str:
        """integer, number, time, text or list."""
        return "list" if name in self.lists else kind_of(self.columns[name])

    def texts(self, name: str) -> list[str]:
        """The values as messages show them; missing ones are empty."""
        array = self.columns[name]
        values = array.cast(pa.string()) if pa.types.is_temporal(array.type) else array
        return ["" if value is None else str(value) for value in values.to_pylist()]


def take_sample(path: str | Path) -> Sample:
    """Look at the first thousand rows of a raw file.

    Raises:
        UserError: the file is missing, empty or cannot be read.
    """
    path = Path(path)
    check_readable(path, "PATH")
    with path.open("rb") as file:
        kind = kind_of_bytes(file.read(HEAD_BYTES))
    if kind == "Parquet":
        return _parquet(path)
    compression = compression_of(str(path), "auto")
    if compression is None and is_compression(kind):
        return _text(path, kind, True)
    return _text(path, compression, False)


def kind_of(array: pa.Array) -> str:
    """integer, number, time or text."""
    kind = array.type
    if pa.types.is_temporal(kind):
        return "time"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return "list" if pa.types.is_nested(kind) else "text"
    return _kind_of_texts(array.to_pylist()) or ("time" if _is_time(array) else "text")


def _is_time(array: pa.Array) -> bool:
    present = array.filter(pc.greater(pc.fill_null(pc.binary_length(array), 0), 0))
    return len(present) > 0 and (written_as(present) is not None or is_time_of_day(present))


def _kind_of_texts(values: Sequence[str | None]) -> str | None:
    present = [value.strip() for value in values if value]
    if not present:
        return "text"
    if all(re.fullmatch(r"[+-]?\d+", value, re.ASCII) for value in present):
        return "integer"
    if all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII) for value in present):
        return "number"
    return None


def _parquet(path: Path) -> Sample:
    with open_parquet(str(path)) as parquet:
        batch = next(parquet.iter_batches(SAMPLE_ROWS), None)
        schema = parquet.schema_arrow
    table = pa.Table.from_batches([] if batch is None else [batch], schema)
    columns, lists = {}, set()
    for place, name in enumerate(schema.names):
        array = table.column(place).combine_chunks()
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_nested(array.type):
            lists.add(name)
        columns[name] = (
            array.cast(pa.string()) if "string" in str(array.type) and name not in lists else array
        )
    return Sample(path, "parquet", None, None, "utf-8", None, columns, lists)


def _text(path: Path, compression: str | None, set_compression: bool) -> Sample:
    block = next(iter_blocks(str(path), compression, block_bytes=1 << 20), b"")
    if block.startswith(_UTF16_MARKS):
        raise UserError(f"'{path}' is UTF-16, which cannot be read", where="PATH", fix="convert it to UTF-8")
    encoding = "utf-8"
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        encoding, text = "latin-1", block.decode("latin-1")
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()][: SAMPLE_ROWS + 1]
    if not lines:
        raise UserError(f"'{path}' is empty", where="PATH")
    common = (encoding, compression)
    if lines[0].lstrip().startswith("{"):
        form, columns, lists = _json(path, lines)
        return Sample(path, form, None, None, *common, columns, lists, set_compression)
    separator = _separator(lines)
    if separator == " " and _looks_like_sequences(lines):
        users = [line.split()[0] for line in lines]
        items = [item for line in lines for item in line.split()[1:]]
        named = {"(first of a line)": pa.array(users), "(rest of a line)": pa.array(items)}
        return Sample(path, "sequences", " ", False, *common, named, set(), set_compression)
    rows = _split(lines, separator)
    header = _has_header(rows)
    width = len(rows[0])
    names = rows[0] if header else [f"column_{number}" for number in range(1, width + 1)]
    body = [row for row in rows[1 if header else 0 :] if len(row) == width]
    columns = {name: pa.array([row[place] for row in body], pa.string()) for place, name in enumerate(names)}
    return Sample(path, "csv", separator, header, *common, columns, set(), set_compression)


def _json(path: Path, lines: list[str]) -> tuple[str, dict[str, pa.Array], set[str]]:
    records: list[dict[str, Any]] = []
    texts: list[dict[str, str | None]] = []
    problems = []
    for line in lines:
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not every line is an object")
            texts.append({name: as_text(value, pa.string()) for name, value in record.items()})
        except (ValueError, RecursionError) as error:
            problems.append(str(error))
        else:
            records.append(record)
    if len(problems) > len(records):  # of a few, `prepare` rejects each
        raise UserError(
            f"the lines look like JSON but are not: {problems[0]}",
            where=str(path),
            fix="write an object a line",
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    inner = [dict(leaves_in(record)) for record in records]
    found = list(dict.fromkeys(name for record in inner for name in record))
    if len(found) <= max(_MOST_COLUMNS, len(names)):  # or else their keys are values themselves
        names, records = found, inner
        texts = [{name: as_text(value, pa.string()) for name, value in record.items()} for record in inner]
    lists = {n for n in names if any(isinstance(record.get(n), list | dict) for record in records)}
    columns = {name: pa.array([text.get(name) for text in texts], pa.string()) for name in names}
    if len(records) == 1 and records[0] and all(isinstance(value, list) for value in records[0].values()):
        return "json_map", {"id": pa.array(names, pa.string())}, set()
    return "jsonl", columns, lists


def _separator(lines: list[str]) -> str:
    """The separator that gives most lines the same number of fields, two at least."""

    def quality(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in _split(lines[:200], separator)]
        usual = max(set(widths), key=widths.count)
        return (widths.count(usual) / len(widths) if usual > 1 else 0.0, usual)

    # `::` before `:`-free ones: where it splits, a shorter separator would only split its parts.
    return max(_SEPARATORS, key=lambda mark: (quality(mark)[0] > 0.9, quality(mark)))


def _split(lines: list[str], separator: str) -> list[list[str]]:
    if len(separator) > 1:
        return [line.split(separator) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _looks_like_sequences(lines: list[str]) -> bool:
    widths = {len(line.split()) for line in lines}
    return len(widths) > 1 and all(re.fullmatch(r"\S+( \S+)+", line.strip()) for line in lines)


def _has_header(rows: list[list[Any]]) -> bool:
    if len(rows) < 2:
        return False
    if any(_kind_of_texts([value]) in ("integer", "number") for value in rows[0] if value):
        return False
    if any(value and _is_time(pa.array([value])) for value in rows[0]):
        return False
    if any(role_of(name) for name in rows[0]):
        return True
    columns = [[row[place] for row in rows[1:] if place < len(row)] for place in range(len(rows[0]))]
    return any(_kind_of_texts(values) in ("integer", "number") for values in columns if any(values))
