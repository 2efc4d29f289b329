"""What a reader hands on: columns as they stand in the file, where each row came from, and what was bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from behavior.printable import printable_json

# Enough to recognise a row; a torn binary file must not fill the disk with its own rejects.
MAX_TEXT = 10_000


class Reject(NamedTuple):
    """A row that could not be read.

    `place` is the line in the file (1 is the first; 0 stands for a whole file that cannot be read), or for
    Parquet the row (0 is the first) in `row_group`. Where a file is damaged, one reject stands for all that
    is lost, at the place where reading stopped.
    """

    file: str
    place: int
    reason: str
    text: str
    row_group: int | None = None

    @property
    def where(self) -> str:
        """File and line (or row), for messages."""
        if self.row_group is None:
            return f"{self.file} line {self.place}" if self.place else self.file
        return f"{self.file} row {self.place} of row group {self.row_group}"

    def to_json(self) -> str:
        """One line of rejected/part-*.jsonl, without the line feed."""
        where: dict[str, Any]
        if self.row_group is None:
            where = {"line": self.place}
        else:
            where = {"row_group": self.row_group, "row": self.place}
        record = {"file": self.file, **where, "reason": self.reason, "text": self.text[:MAX_TEXT]}
        return printable_json(record)

    @classmethod
    def from_json(cls, line: str | bytes) -> Reject:
        """The inverse of `to_json`."""
        record = json.loads(line)
        place = record.get("line", record.get("row", 0))
        return cls(record["file"], place, record["reason"], record["text"], record.get("row_group"))


@dataclass
class RawBatch:
    """Rows of one block of a file, in file order.

    Attributes:
        columns: name -> Arrow array; text formats give binary or string arrays, Parquet its own types.
        places: line (relative to the chunk, 1-based) or row of each row. [rows] int64.
        text_of: raw text of the row at an index of `places`; only called for rejects.
        rejects: (place, reason, text) of what never became a row.
        lines: lines, good or bad, of the block; once placed in its chunk, of the chunk up to its end.
        row_group: of Parquet, the row group in which the places count.
        damaged: why the rest of the file (of Parquet, of the row group) is lost; one of `rejects` says so.
        filtered: rows that the spec leaves out (`where`); they are not among these.
    """

    columns: dict[str, pa.Array]
    places: np.ndarray
    text_of: Callable[[int], str]
    rejects: list[tuple[int, str, str]] = field(default_factory=list)
    lines: int = 0
    row_group: int | None = None
    damaged: str | None = None
    filtered: int = 0

    def keep(self, kept: np.ndarray) -> RawBatch:
        """Only some of the rows; the others count as filtered. [rows] bool"""
        rows = np.flatnonzero(kept)
        text_of = self.text_of
        return replace(
            self,
            columns={name: column.filter(pa.array(kept)) for name, column in self.columns.items()},
            places=self.places[rows],
            text_of=lambda index: text_of(int(rows[index])),
            filtered=self.filtered + len(kept) - len(rows),
        )

    @property
    def num_rows(self) -> int:
        return len(self.places)
