"""Delimited text (CSV, TSV, separators of several characters) by Arrow's CSV parser.

The parser never sees a type but bytes: what a value means, and whether it is good, is decided column by
column later, so that one bad value costs one row and not one file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from behavior.errors import UserError
from behavior.sources.raw import RawBatch

# Control characters that stand in for a separator of several characters; one that the block does not hold.
_STAND_INS = (b"\x1f", b"\x1e", b"\x1d", b"\x1c", b"\x01", b"\x02")


class DelimitedReader:
    """Turns blocks of lines into raw batches.

    Args:
        names: all columns of the file, in order.
        wanted: the columns to read.
        separator: between fields; may have several characters.
        quote: the quote character, or None.
        encoding: of the text.
    """

    def __init__(
        self, names: list[str], wanted: list[str], separator: str, quote: str | None, encoding: str
    ) -> None:
        self.names = names
        self.wanted = wanted
        self.separator = separator.encode()  # blocks are turned into UTF-8 before they are parsed
        self.quote = quote if len(self.separator) == 1 else None
        self.encoding = encoding
        self.white = b" \t\r\n".replace(self.separator, b"")

    def read(self, block: bytes) -> RawBatch:
        """Parse one block of whole lines."""
        text, rejects = to_utf8(block, self.encoding)
        bad_lines = {place for place, _, _ in rejects}
        columns: dict[str, list[pa.Array]] = {name: [] for name in self.wanted}
        places: list[np.ndarray] = []
        for first, table, invalid, lines in self._parse(text, 1):
            kept = np.ones(lines, bool)
            for number, reason, raw in invalid:
                kept[number - 1] = False
                if not self._is_blank(raw.encode()) and first + number - 1 not in bad_lines:
                    rejects.append((first + number - 1, reason, raw))
            places.append(np.flatnonzero(kept) + first)
            for name in self.wanted:
                columns[name].extend(table.column(name).chunks)
        arrays = {
            name: pa.chunked_array(chunks, pa.binary()).combine_chunks() for name, chunks in columns.items()
        }
        place = np.concatenate(places) if places else np.zeros(0, np.int64)
        return self._without_blank_lines(text, bad_lines, arrays, place, rejects)

    def _without_blank_lines(
        self,
        text: bytes,
        bad_lines: set[int],
        arrays: dict[str, pa.Array],
        places: np.ndarray,
        rejects: list[tuple[int, str, str]],
    ) -> RawBatch:
        # Arrow gives a row of empty fields for a blank line, which keeps line numbers right until here.
        starts = line_starts(text)
        lengths = np.diff(np.append(starts, len(text)))
        suspects = np.flatnonzero(lengths <= 2)
        blank = [n + 1 for n in suspects if self._is_blank(text[starts[n] : starts[n] + lengths[n]])]
        drop = set(blank) | bad_lines
        if drop:
            keep = ~np.isin(places, np.fromiter(drop, np.int64))
            arrays = {name: array.filter(pa.array(keep)) for name, array in arrays.items()}
            places = places[keep]

        def text_of(index: int) -> str:
            begin = starts[places[index] - 1]
            line = text[begin : begin + lengths[places[index] - 1]]
            return line.rstrip(b"\r\n").decode("utf-8", errors="replace")

        return RawBatch(arrays, places, text_of, rejects, lines=len(starts))

    def _is_blank(self, line: bytes) -> bool:
        """Whether a line holds nothing but white space that does not separate fields."""
        return not line.strip(self.white)

    def _parse(
        self, text: bytes, first: int
    ) -> Iterator[tuple[int, pa.Table, list[tuple[int, str, str]], int]]:
        """Parse lines; where a stray quote makes the parser lose count, halve the text and try again.

        To the parser a carriage return ends a line and a quoted line feed does not; to us a line ends at its
        line feed and nowhere else. Rows and lines tally where both agree.
        """
        if not text:
            return
        invalid: list[tuple[int, str, str]] = []
        lines = text.count(b"\n") + (not text.endswith(b"\n"))
        table, problem = None, "a quote is not closed"
        if text.count(b"\r") > text.count(b"\r\n") + text.endswith(b"\r"):
            # It would add a row where a quote may take one away: the sum of both says nothing.
            problem = "a carriage return within the line"
        else:
            try:
                table = self._parse_once(text, invalid)
            except pa.ArrowInvalid as error:
                problem = str(error)
        if table is not None and table.num_rows + len(invalid) == lines:
            yield first, table, invalid, lines
        elif lines == 1:
            empty = pa.table({name: pa.array([], pa.binary()) for name in self.wanted})
            yield first, empty, [(1, problem, text.decode("utf-8", errors="replace").rstrip("\r\n"))], 1
        else:
            cut = _middle_line(text)
            above = text[:cut].count(b"\n")
            yield from self._parse(text[:cut], first)
            yield from self._parse(text[cut:], first + above)

    def _parse_once(self, text: bytes, invalid: list[tuple[int, str, str]]) -> pa.Table:
        delimiter = self.separator
        if len(delimiter) > 1:
            stand_in = next((c for c in _STAND_INS if c not in text), None)
            if stand_in is None:
                raise pa.ArrowInvalid("the line holds control characters")
            text, delimiter = text.replace(delimiter, stand_in), stand_in
        # A row of empty fields at the end: a quote that is not closed swallows it, and then it is missed.
        guarded = self.quote is not None and self.quote.encode() in text
        if guarded:
            text += (b"" if text.endswith(b"\n") else b"\n") + delimiter * (len(self.names) - 1) + b"\n"

        def on_invalid(row: pacsv.InvalidRow) -> str:
            reason = f"{row.actual_columns} fields where {row.expected_columns} are expected"
            raw = (
                row.text if delimiter == self.separator else row.text.replace(delimiter.decode(), self._shown)
            )
            invalid.append((row.number, reason, raw))
            return "skip"

        table = pacsv.read_csv(
            io.BytesIO(text),
            read_options=pacsv.ReadOptions(
                use_threads=False, column_names=self.names, block_size=len(text) + 1
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter.decode(),
                quote_char=self.quote or False,
                ignore_empty_lines=False,
                invalid_row_handler=on_invalid,
            ),
            convert_options=pacsv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(self.wanted, pa.binary()),
                include_columns=self.wanted,
                strings_can_be_null=False,
            ),
        )
        if guarded and not table.num_rows:
            raise pa.ArrowInvalid("a quote is not closed")
        return table.slice(0, table.num_rows - 1) if guarded else table

    @property
    def _shown(self) -> str:
        return self.separator.decode("utf-8", errors="replace")


def to_utf8(block: bytes, encoding: str) -> tuple[bytes, list[tuple[int, str, str]]]:
    """A block of lines in UTF-8, and the lines (1-based) that are not text in `encoding`, blanked.

    The number of lines stays the same.
    """
    try:
        text = block.decode(encoding)
        plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii")
        return (block if plain else text.encode("utf-8")), []
    except UnicodeDecodeError:
        rejects: list[tuple[int, str, str]] = []
        lines = []
        for number, line in enumerate(block.split(b"\n"), start=1):
            try:
                lines.append(line.decode(encoding).encode("utf-8"))
            except UnicodeDecodeError as error:
                shown = line.rstrip(b"\r").decode("utf-8", errors="backslashreplace")
                rejects.append((number, f"not {encoding}: {error.reason} at byte {error.start}", shown))
                lines.append(b"")
        return b"\n".join(lines), rejects


def line_starts(text: bytes) -> np.ndarray:
    """Byte position at which each line begins. [lines] int64."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))
    return starts[:-1] if text.endswith(b"\n") or not text else starts


def columns_of_header(line: str, separator: str, quote: str | None, where: str) -> list[str]:
    """Names of the columns from a header line.

    Raises:
        UserError: a name stands there twice, or the line is no header.
    """
    if quote and len(separator) == 1:
        try:
            fields = next(csv.reader([line], delimiter=separator, quotechar=quote), [""])
        except csv.Error as error:
            raise UserError(f"the first line is not a header: {error}", where=where) from None
    else:
        fields = line.split(separator)
    fields = [field.strip() for field in fields]
    twice = next((name for name in fields if fields.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"the header names the column '{twice}' twice", where=where)
    return fields


def _middle_line(text: bytes) -> int:
    """Position after the line feed nearest behind the middle; before it where none follows."""
    middle = len(text) // 2
    cut = text.find(b"\n", middle, len(text) - 1)
    return cut + 1 if cut >= 0 else text.rfind(b"\n", 0, middle) + 1
