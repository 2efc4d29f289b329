"""Where the rows of delimited text begin and end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior.runtime.compiled import compiled

MAX_ROW_BYTES = 16 << 20
"""A quote that is not closed within this many bytes is a stray one, and costs its own line only."""


@dataclass(frozen=True)
class Rows:
    """Rows of a text.

    Attributes:
        text: UTF-8.
        bounds: where each row begins, and the end of the last one. [rows + 1] int64
        lines: number of the line in which each begins; the first line of the text is 1. [rows] int64
        torn: rows with a carriage return that ends no line: to Arrow it would. [rows] bool
        open: rows whose quote is not closed. [rows] bool
    """

    text: bytes
    bounds: np.ndarray
    lines: np.ndarray
    torn: np.ndarray
    open: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    def text_of(self, row: int) -> str:
        """A row as it stands in the file, without its line end."""
        raw = self.text[self.bounds.item(row) : self.bounds.item(row + 1)]
        return raw.decode("utf-8", errors="replace").rstrip("\r\n")


def line_starts(text: bytes) -> np.ndarray:
    """Byte position at which each line begins. [lines] int64."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))
    return starts[:-1] if text.endswith(b"\n") or not text else starts


def line_rows(text: bytes) -> Rows:
    """Rows that are lines."""
    starts = line_starts(text)
    bounds = np.append(starts, len(text))
    torn = np.zeros(len(starts), bool)
    if b"\r" in text:
        content = np.frombuffer(text, np.uint8)
        returns = np.flatnonzero(content[:-1] == ord("\r"))
        bare = returns[content[returns + 1] != ord("\n")]
        torn[np.searchsorted(starts, bare, side="right") - 1] = True
    return Rows(text, bounds, np.arange(1, len(starts) + 1), torn, np.zeros(len(starts), bool))


def quoted_rows(text: bytes, separator: bytes, quote: bytes, *, last: bool) -> Rows:
    """Rows that end at a line feed outside quotes. What follows the last of them is not in any.

    A quote that is not closed within `MAX_ROW_BYTES` costs its own line: rows go on with the next one.

    Args:
        text: UTF-8, from the beginning of a row.
        separator: between fields; one byte.
        quote: one byte.
        last: whether nothing follows: then the text's end ends a row, and no quote can be closed later.
    """
    content = np.frombuffer(text, np.uint8)
    bounds, lines, torn, left_open = _quoted_rows(content, separator[0], quote[0], MAX_ROW_BYTES, last)
    return Rows(text, bounds, lines, torn, left_open)


@compiled
def _quoted_rows(
    text: np.ndarray, separator: int, quote: int, max_bytes: int, last: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    size = 2
    for byte in text:  # there are no more rows than lines
        size += byte == 10
    bounds, lines = np.zeros(size, np.int64), np.zeros(size, np.int64)
    torn, left_open = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    rows, start, line = 0, 0, 1
    while start < len(text):
        end, line_end, feeds, quoted, bare = _row_end(text, start, separator, quote, max_bytes)
        ended = end > start and text[end - 1] == 10 and not quoted
        if not ended and not last and end - start < max_bytes:
            break  # the rest of the row is still to come
        if quoted:
            end, feeds = line_end, 1
        bounds[rows + 1] = end
        lines[rows], torn[rows], left_open[rows] = line, bare, quoted
        rows, line, start = rows + 1, line + feeds, end
    return bounds[: rows + 1], lines[:rows], torn[:rows], left_open[:rows]


@compiled
def _row_end(
    text: np.ndarray, start: int, separator: int, quote: int, max_bytes: int
) -> tuple[int, int, int, bool, bool]:
    """Where a row and its first line end, its line feeds, whether a quote is open, whether a return is bare.

    As Arrow's parser has it: a quote opens where a field begins and nowhere else, and a doubled one within
    quotes stands for itself.
    """
    end, line_end, feeds = len(text), len(text), 0
    quoted, bare, field_starts = False, False, True
    place = start
    while place < end:
        byte = text[place]
        place += 1
        if byte == 10:
            feeds += 1
            line_end = min(line_end, place)
            if not quoted:
                break
        if quoted:
            if byte == quote:
                if place < end and text[place] == quote:
                    place += 1
                else:
                    quoted = False
            elif place - start >= max_bytes:
                break
        elif byte == quote and field_starts:
            quoted, field_starts = True, False
        else:
            field_starts = byte == separator
            bare |= byte == 13 and place < end and text[place] != 10
    return place, line_end, feeds, quoted, bare
