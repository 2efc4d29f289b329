"""Rows of users in any order, gathered by user, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash

_PARTS = 64
OWNER = "owner"


class Gathered:
    """Rows that are given one table after the other, and taken back so that a user's rows come together.

    They stay in memory while they are few; more of them lie in temporary files, divided by a hash of the
    user, and come back one file after the other.

    Args:
        limit: rows in memory, at most, while they are given.
        parts: files.
    """

    def __init__(self, limit: int, parts: int = _PARTS) -> None:
        self.limit, self.parts = limit, parts
        self._rows: list[pa.Table] = []
        self._held = 0
        self._files: list[Path] = []
        self._writers: list[pa.ipc.RecordBatchFileWriter] = []
        self._closing = ExitStack()

    def __enter__(self) -> Gathered:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def add(self, rows: pa.Table) -> None:
        """More rows, with the column `owner`; all of one schema."""
        self._rows.append(rows)
        self._held += rows.num_rows
        if self._held > self.limit:
            self._spill()

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows; those of a user in the order in which they were given, in one table."""
        if not self._files:
            if self._rows:
                yield pa.concat_tables(self._rows)
            return
        self._spill()
        for writer in self._writers:
            writer.close()
        for file in self._files:
            with pa.ipc.open_file(str(file)) as reader:
                table = reader.read_all()
            if table.num_rows:
                yield table

    def _spill(self) -> None:
        for rows in self._rows:
            if not self._files:
                self._open(rows.schema)
            for batch in rows.cast(self._schema).to_batches():
                for part, own in split_by_hash(batch, OWNER, self.parts):
                    self._writers[part].write_batch(own)
        self._rows, self._held = [], 0

    def _open(self, schema: pa.Schema) -> None:
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="lrm-histories-")))
        self._schema = schema
        self._files = [folder / f"{part}.arrow" for part in range(self.parts)]
        for file in self._files:
            self._writers.append(self._closing.enter_context(pa.ipc.new_file(str(file), schema)))
