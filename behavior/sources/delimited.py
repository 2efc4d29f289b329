"""Delimited text (CSV, TSV, separators of several characters) by Arrow's CSV parser.

The parser is asked for bytes: what a value means, and whether it is valid, is decided column by column later,
so that one bad value costs one row and not one file. Only columns of integers are tried as such first,
block by block, since that is what most columns of a log hold.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from behavior.sources.damage import UnreadableFileError
from behavior.sources.raw import RawBatch
from behavior.sources.rows import Rows, line_rows, quoted_rows
from behavior.wording import number_of

NOT_CLOSED = "a quote is not closed"
# Control characters that stand in for a separator of several characters; one that the block does not hold.
_STAND_INS = (b"\x1f", b"\x1e", b"\x1d", b"\x1c", b"\x01", b"\x02")
# After so many blocks in a row in which a column of integers held something else, none is tried again.
_MAX_MISSES = 3


class DelimitedReader:
    """Turns blocks of lines into raw batches.

    Args:
        names: all columns of the file, in order.
        wanted: the columns to read.
        separator: between fields; may have several characters.
        quote: the quote character, or None.
        encoding: of the text.
        integers: those of `wanted` that come as int64 from blocks in which all of their values are whole
            numbers that fit, and as bytes from others.
    """

    multiline = False

    def __init__(
        self,
        names: list[str],
        wanted: list[str],
        separator: str,
        quote: str | None,
        encoding: str,
        integers: set[str] | None = None,
    ) -> None:
        self.names = names
        self.wanted = wanted
        self.separator = separator.encode()  # blocks are turned into UTF-8 before they are parsed
        self.quote = quote if len(self.separator) == 1 else None
        self.encoding = encoding
        self.integers = integers or set()
        self.white = b" \t\r\n".replace(self.separator, b"")
        self._misses = 0

    def read(self, block: bytes) -> RawBatch:
        """Parse one block of whole lines."""
        text, bad_lines = to_utf8(block, self.encoding)
        rows = line_rows(text)
        return self._read_rows(rows, {place - 1 for place, _, _ in bad_lines}, bad_lines, len(rows))

    def _read_rows(
        self, rows: Rows, bad_rows: set[int], rejects: list[tuple[int, str, str]], lines: int
    ) -> RawBatch:
        """Parse rows, of which the bad ones (0 is the first) are rejected already."""
        tables, kept = self._tables(rows, bad_rows, rejects)
        drop = bad_rows | self._blank_rows(rows)
        keep = None
        if drop:
            keep = ~np.isin(kept, np.fromiter(drop, np.int64))
            kept = kept[keep]
        arrays = {}
        for name in self.wanted:
            chunks = [chunk for table in tables for chunk in table.column(name).chunks]
            kind = tables[0].column(name).type
            array = chunks[0] if len(chunks) == 1 else pa.chunked_array(chunks, kind).combine_chunks()
            arrays[name] = array if keep is None else array.filter(pa.array(keep))
        return RawBatch(
            arrays, rows.lines[kept], lambda index: rows.text_of(kept.item(index)), rejects, lines=lines
        )

    def _tables(
        self, rows: Rows, bad_rows: set[int], rejects: list[tuple[int, str, str]]
    ) -> tuple[list[pa.Table], np.ndarray]:
        """The parsed rows, with which rows they are; adds to the rejects those that have no fields."""
        parsed = self._as_integers(rows)
        tables: list[pa.Table] = []
        kept = np.ones(len(rows), bool)
        for first, table, invalid in [parsed] if parsed is not None else self._parse(rows, 0, len(rows)):
            for number, reason, raw in invalid:
                row = first + number - 1
                kept[row] = False
                if not self._is_blank(raw.encode()) and row not in bad_rows:
                    rejects.append((int(rows.lines[row]), reason, raw))
            tables.append(table)
        return tables, np.flatnonzero(kept)

    def _blank_rows(self, rows: Rows) -> set[int]:
        # Arrow gives a row of empty fields for a blank line, which keeps line numbers right until here.
        suspects = np.flatnonzero(np.diff(rows.bounds) <= 2).tolist()
        return {n for n in suspects if self._is_blank(rows.text[rows.bounds[n] : rows.bounds[n + 1]])}

    def _is_blank(self, line: bytes) -> bool:
        """Whether a line holds nothing but white space that does not separate fields."""
        return not line.strip(self.white)

    def _as_integers(self, rows: Rows) -> tuple[int, pa.Table, list[tuple[int, str, str]]] | None:
        """All rows with columns of integers as int64; None where that does not work out."""
        hopeless = not len(rows) or rows.torn.any() or rows.open.any()
        if hopeless or not self.integers or _may_be_hexadecimal(rows.text):
            return None
        invalid: list[tuple[int, str, str]] = []
        try:
            table = self._parse_once(rows.text, invalid, self.integers)
        except pa.ArrowInvalid:
            table = None
        if table is not None and table.num_rows + len(invalid) == len(rows):
            self._misses = 0
            return 0, table, invalid
        self._misses += 1
        if self._misses == _MAX_MISSES:
            self.integers = set()
        return None

    def _parse(
        self, rows: Rows, first: int, last: int
    ) -> Iterator[tuple[int, pa.Table, list[tuple[int, str, str]]]]:
        """Parse rows [first, last); where a stray quote makes the parser lose count, halve and try again.

        To the parser a carriage return ends a row, and a quoted line feed may not; to us a row ends where
        `rows` says. Parsed and true rows tally where both agree.
        """
        invalid: list[tuple[int, str, str]] = []
        table, problem = None, NOT_CLOSED
        if rows.torn[first:last].any() and not rows.open[first:last].any():
            # It would add a row where a quote may take one away: the sum of both says nothing.
            problem = "a carriage return within the line"
        elif not rows.open[first:last].any():
            try:
                table = self._parse_once(rows.text[rows.bounds[first] : rows.bounds[last]], invalid, set())
            except pa.ArrowInvalid as error:
                problem = str(error)
        if table is not None and table.num_rows + len(invalid) == last - first:
            yield first, table, invalid
        elif last - first <= 1:
            empty = pa.table({name: pa.array([], pa.binary()) for name in self.wanted})
            yield first, empty, [(1, problem, rows.text_of(first))] if last > first else []
        else:
            middle = (first + last) // 2
            yield from self._parse(rows, first, middle)
            yield from self._parse(rows, middle, last)

    def _parse_once(self, text: bytes, invalid: list[tuple[int, str, str]], integers: set[str]) -> pa.Table:
        delimiter = self.separator
        if len(delimiter) > 1:
            stand_in = next((c for c in _STAND_INS if c not in text), None)
            if stand_in is None:
                raise pa.ArrowInvalid("the line holds control characters")
            text, delimiter = text.replace(delimiter, stand_in), stand_in
        # A row of empty fields at the end: a quote that is not closed swallows it, and then it is missed.
        guarded = self.quote is not None and self.quote.encode() in text
        if guarded:
            text += (b"" if text.endswith(b"\n") else b"\n") + self._guard(delimiter, integers) + b"\n"

        def on_invalid(row: pacsv.InvalidRow) -> str:
            reason = f"{number_of(row.actual_columns, 'field')} where {row.expected_columns} are expected"
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
                newlines_in_values=self.multiline,
            ),
            convert_options=pacsv.ConvertOptions(
                check_utf8=False,
                column_types={n: pa.int64() if n in integers else pa.binary() for n in self.wanted},
                include_columns=self.wanted,
                null_values=[],
                strings_can_be_null=False,
            ),
        )
        if guarded and not table.num_rows:
            raise pa.ArrowInvalid(NOT_CLOSED)
        return table.slice(0, table.num_rows - 1) if guarded else table

    def _guard(self, delimiter: bytes, integers: set[str]) -> bytes:
        return delimiter.join(b"0" if name in integers else b"" for name in self.names)

    @property
    def _shown(self) -> str:
        return self.separator.decode("utf-8", errors="replace")


class MultilineReader(DelimitedReader):
    """Turns blocks of lines into raw batches of rows whose quoted fields may hold line feeds.

    Blocks must come in the order of the file, from the beginning of a row. A row that a block does not
    finish waits for the next one; `finish` gives the last. See `DelimitedReader` for the arguments.
    """

    multiline = True

    def __init__(
        self,
        names: list[str],
        wanted: list[str],
        separator: str,
        quote: str,
        encoding: str,
        integers: set[str] | None = None,
    ) -> None:
        super().__init__(names, wanted, separator, quote, encoding, integers)
        self._quote = quote.encode()
        self.rest = b""
        """The row that is not finished, in UTF-8."""
        self._bad_lines: list[tuple[int, str, str]] = []  # of the rest; 1 is its first line

    def read(self, block: bytes) -> RawBatch:
        """Parse the rows that end in a block."""
        text, bad_lines = to_utf8(block, self.encoding, keep=True)
        before = self.rest.count(b"\n")
        self._bad_lines += [(place + before, reason, raw) for place, reason, raw in bad_lines]
        return self._take(self.rest + text, last=False)

    def finish(self) -> RawBatch:
        """Parse what is left at the end of the file."""
        return self._take(self.rest, last=True)

    def _take(self, text: bytes, *, last: bool) -> RawBatch:
        rows = quoted_rows(text, self.separator, self._quote, last=last)
        end = int(rows.bounds[-1])
        whole, self.rest = text[:end], text[end:]
        lines = whole.count(b"\n") + (last and whole != b"" and not whole.endswith(b"\n"))
        here = [bad for bad in self._bad_lines if bad[0] <= lines]
        self._bad_lines = [
            (place - lines, reason, raw) for place, reason, raw in self._bad_lines if place > lines
        ]
        reasons: dict[int, str] = {}
        for place, reason, _ in here:
            reasons.setdefault(int(np.searchsorted(rows.lines, place, side="right")) - 1, reason)
        rejects = [(int(rows.lines[row]), reason, rows.text_of(row)) for row, reason in reasons.items()]
        rows = Rows(whole, rows.bounds, rows.lines, rows.torn, rows.open)
        return self._read_rows(rows, set(reasons), rejects, lines)


def _may_be_hexadecimal(text: bytes) -> bool:
    """Whether there is 0x anywhere: Arrow would take 0x10 for 16."""
    if b"x" not in text and b"X" not in text:  # many times as fast as looking for two letters
        return False
    content = np.frombuffer(text, np.uint8)
    places = np.flatnonzero((content[1:] | 32) == ord("x"))
    return bool((content[places] == ord("0")).any())


def to_utf8(block: bytes, encoding: str, keep: bool = False) -> tuple[bytes, list[tuple[int, str, str]]]:
    """A block of lines in UTF-8, and the lines (1-based) that are not text in `encoding`, blanked.

    The number of lines stays the same.

    Args:
        block: whole lines.
        encoding: of the block.
        keep: keep what can be read of such a line, so that its quotes and separators count.
    """
    plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii", "us-ascii")
    if plain and block.isascii():
        return block, []
    try:
        text = block.decode(encoding)
        if plain:
            return block, []
        if text.count("\n") == block.count(b"\n"):
            return text.encode("utf-8"), []
    except UnicodeError:
        pass  # some line is no text: which one, the loop tells
    rejects: list[tuple[int, str, str]] = []
    lines = []
    for number, line in enumerate(block.split(b"\n"), start=1):
        try:
            text = line.decode(encoding)
            if "\n" in text:
                raise UnicodeError("a line feed is written in several bytes")
            lines.append(text.encode("utf-8"))
        except UnicodeError as error:
            shown = line.rstrip(b"\r").decode("utf-8", errors="backslashreplace")
            rejects.append((number, f"not {encoding}: {_reason(error)}", shown))
            lines.append(line.decode("ascii", errors="replace").encode() if keep else b"")
    return b"\n".join(lines), rejects


def _reason(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError | UnicodeEncodeError):
        return f"{error.reason} at byte {error.start}"
    return str(error)


def columns_of_header(header: str, separator: str, quote: str | None, where: str) -> list[str]:
    """Names of the columns from a header.

    Raises:
        UnreadableFileError: a name stands there twice, or the line is no header.
    """
    if quote and len(separator) == 1:
        try:
            lines = io.StringIO(header, newline="")
            fields = next(csv.reader(lines, delimiter=separator, quotechar=quote), [""])
        except csv.Error as error:
            raise UnreadableFileError(f"the first line is not a header: {error}", where=where) from None
    else:
        fields = header.split(separator)
    fields = [field.strip() for field in fields]
    twice = next((name for name in fields if fields.count(name) > 1), None)
    if twice is not None:
        raise UnreadableFileError(f"the header names the column '{twice}' twice", where=where)
    return fields
