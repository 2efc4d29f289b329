"""JSON lines by Arrow's JSON reader, with a line-by-line fallback for what it does not take."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from behavior.arrow.written import literal_list, split_lists
from behavior.sources.delimited import to_utf8
from behavior.sources.nested import column_of, look_up, nested_schema
from behavior.sources.raw import RawBatch
from behavior.sources.rows import line_starts

# Below this many lines the slow reader costs nothing worth another halving.
_SLOW_LINES = 512
# Between these sizes Arrow and Python write a float as the same text, and an integer is exact.
_SAME_TEXT = (1e-3, 1e10)
IS_LIST = "is a list, not one value"
IS_ONE = "is one value, not a list"
AN_EVENT_EACH = ""
"""In place of a separator: a list has a value an event. Nulls keep their places, and what is no list is
rejected."""
_SCALARS = {int: pa.int64(), float: pa.float64(), str: pa.string()}


class JsonLinesReader:
    """Turns blocks of JSON lines into raw batches.

    Numbers come as text, so that 7 and "7" are the same id. Lists come as lists of text.

    Args:
        wanted: keys to read; one that a line lacks is null there.
        lists: those of `wanted` that come as lists, each with what separates the values where it is text
            (see `behavior.arrow.written.split_lists`), or `AN_EVENT_EACH`.
        encoding: of the text.
    """

    def __init__(self, wanted: list[str], lists: Mapping[str, str | None], encoding: str) -> None:
        self.wanted = wanted
        self.separators = lists
        self.types = {name: pa.list_(pa.string()) if name in lists else pa.string() for name in wanted}
        self.encoding = encoding
        self._schemas: list[pa.Schema] = [nested_schema(self.types)]

    def read(self, block: bytes) -> RawBatch:
        """Parse one block of whole lines."""
        text, rejects = to_utf8(block, self.encoding)
        starts = line_starts(text)
        ends = np.append(starts[1:], len(text))[: len(starts)]
        columns: dict[str, list[pa.Array]] = {name: [] for name in self.wanted}
        places: list[np.ndarray] = []
        self._neat = _one_object_a_line(text, starts, ends)
        self._parse(text, starts, ends, 0, len(starts), columns, places, rejects)
        arrays = {
            name: pa.chunked_array(chunks, self.types[name]).combine_chunks()
            for name, chunks in columns.items()
        }
        place = np.concatenate(places) if places else np.zeros(0, np.int64)

        def text_of(index: int) -> str:
            line = place[index] - 1
            return text[starts[line] : ends[line]].decode("utf-8", errors="replace").rstrip("\r\n")

        return RawBatch(arrays, place, text_of, rejects, lines=len(starts))

    def _parse(
        self,
        text: bytes,
        starts: np.ndarray,
        ends: np.ndarray,
        first: int,
        last: int,
        columns: dict[str, list[pa.Array]],
        places: list[np.ndarray],
        rejects: list[tuple[int, str, str]],
    ) -> None:
        """Parse lines [first, last); halve them where the fast reader refuses."""
        if first >= last:
            return
        table = None
        if self._neat[first:last].all():
            table = self._parse_fast(text[starts[first] : ends[last - 1]], last - first)
        if table is not None:
            for name in self.wanted:
                columns[name].extend(table.column(name).chunks)
            places.append(np.arange(first + 1, last + 1))
        elif last - first <= _SLOW_LINES:
            lines = [text[starts[n] : ends[n]] for n in range(first, last)]
            self._parse_slowly(lines, first + 1, columns, places, rejects)
        else:
            middle = (first + last) // 2
            self._parse(text, starts, ends, first, middle, columns, places, rejects)
            self._parse(text, starts, ends, middle, last, columns, places, rejects)

    def _parse_fast(self, text: bytes, lines: int) -> pa.Table | None:
        for schema in self._schemas:
            try:
                table = pajson.read_json(
                    io.BytesIO(text),
                    read_options=pajson.ReadOptions(use_threads=False, block_size=len(text) + 1),
                    parse_options=pajson.ParseOptions(
                        explicit_schema=schema, unexpected_field_behavior="ignore"
                    ),
                )
            except pa.ArrowException:
                continue
            if table.num_rows != lines:
                continue
            found = pa.table({name: column_of(table, name) for name in self.wanted})
            if _floats_write_alike(found):
                columns = {name: self._as_wanted(name, found.column(name)) for name in self.wanted}
                return pa.table(columns)
        return None

    def _as_wanted(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """A column of the fast reader as text or as lists of text, as `as_text` gives its values."""
        if name not in self.separators or pa.types.is_list(column.type):
            return column.cast(self.types[name])
        chunks = [split_lists(chunk, self.separators[name]) for chunk in column.cast(pa.string()).chunks]
        return pa.chunked_array(chunks, self.types[name])

    def _parse_slowly(
        self,
        lines: list[bytes],
        first: int,
        columns: dict[str, list[pa.Array]],
        places: list[np.ndarray],
        rejects: list[tuple[int, str, str]],
    ) -> None:
        values: dict[str, list[Any]] = {name: [] for name in self.wanted}
        kept: list[int] = []
        seen_types: dict[str, set[type]] = {name: set() for name in self.wanted}
        for number, line in enumerate(lines, start=first):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not a JSON object")
                found = {name: look_up(record, name) for name in self.wanted}
                texts = {
                    name: as_text(found[name], kind, self.separators.get(name))
                    for name, kind in self.types.items()
                }
            except (ValueError, RecursionError) as error:
                rejects.append(
                    (number, f"not JSON: {error}", line.decode("utf-8", errors="replace").rstrip())
                )
                continue
            wrong = self._wrong_kind(found)
            if wrong is not None:
                rejects.append((number, wrong, line.decode("utf-8", errors="replace").rstrip()))
                continue
            kept.append(number)
            for name in self.wanted:
                values[name].append(texts[name])
                seen_types[name].add(type(found[name]))
        for name in self.wanted:
            columns[name].append(pa.array(values[name], self.types[name]))
        places.append(np.array(kept, np.int64))
        self._learn(seen_types)

    def _wrong_kind(self, found: Mapping[str, Any]) -> str | None:
        """Which value of a line is a list and may not be one, or must be one and is not."""
        for name, value in found.items():
            if isinstance(value, list) and name not in self.separators:
                return f"'{name}' {IS_LIST}"
            single = value is not None and not isinstance(value, list)
            if single and self.separators.get(name) == AN_EVENT_EACH:
                return f"'{name}' {IS_ONE}"
        return None

    def _learn(self, seen: dict[str, set[type]]) -> None:
        """Remember a schema that the fast reader would have taken, for the lines to come."""
        types = {}
        for name in self.wanted:
            kinds = seen[name] - {type(None)}
            may_be_one = self.separators.get(name) != AN_EVENT_EACH
            scalar = _SCALARS.get(next(iter(kinds))) if len(kinds) == 1 and may_be_one else None
            types[name] = scalar or self.types[name]
        schema = nested_schema(types)
        if schema not in self._schemas and len(self._schemas) < 4:
            self._schemas.insert(0, schema)


def _one_object_a_line(text: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which lines begin with { and end with }. [lines] bool

    Arrow's reader does not care about lines. Where all of them look like this and it finds as many objects
    as lines, each line is one object. (Besides, a text that begins with null crashes it.)
    """
    content = np.frombuffer(text, np.uint8)
    last = ends - 1
    last = last - (content[last] == ord("\n"))
    last = last - (content[last] == ord("\r"))
    return (content[starts] == ord("{")) & (content[last] == ord("}"))


def _floats_write_alike(table: pa.Table) -> bool:
    """Whether Arrow writes the floats of a table as `as_text` does."""
    for column in table.columns:
        if pa.types.is_floating(column.type):
            sizes = np.abs(column.drop_null().to_numpy())
            if not ((sizes == 0) | ((sizes >= _SAME_TEXT[0]) & (sizes < _SAME_TEXT[1]))).all():
                return False
    return True


def as_text(value: Any, kind: pa.DataType, separator: str | None = None) -> Any:
    """A JSON value as text, or as a list of texts; null stays null, as is NaN, which programs write for it.

    Args:
        value: as `json` gives it.
        kind: string, or list of string.
        separator: for lists: splits what is no list of JSON's own, as it splits text of other formats; None
            for lists that are text (`behavior.arrow.written.literal_list`). Of `AN_EVENT_EACH` nulls stay.

    Raises:
        ValueError: a string holds half of a surrogate pair, which is not text.
    """
    if value is None:
        return None
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            text = as_text(value, pa.string())
            if text is None:
                return None
            return text.split(separator) if separator else literal_list(text)
        each = separator == AN_EVENT_EACH
        texts = [as_text(entry, pa.string()) for entry in value]
        return texts if each else [text for text in texts if text is not None]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return repr(value).removesuffix(".0")  # as Arrow writes it, so that both readers agree
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a string holds half of a surrogate pair, {text[error.start]!r}") from None
    return text
