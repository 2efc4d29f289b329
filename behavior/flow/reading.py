"""Reading one chunk of the input: its events, and a report of what became of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from behavior.flow.preparation import Preparation
from behavior.sources.chunks import Chunk
from behavior.sources.damage import UnreadableFileError
from behavior.sources.raw import Reject
from behavior.steps.events import read_events


@dataclass(frozen=True)
class ChunkReport:
    """What reading one chunk came to.

    Attributes:
        chunk: which one.
        read, rejected, filtered: rows; `read` less the other two are events.
        lines: of the chunk; those of the chunks before it are added to the lines of its rejects.
        name: how messages name the file.
        damaged: whether the file could not be read to its end.
        known: events that have a value, by the name of each optional column: value and features.
        unreadable: whether the file proved to be of no use: it cannot be opened, lacks a column, has a line
            without end. What was read of the chunk before that counts. The last of its rejects stands for the
            file; other chunks of it may say the same again.
    """

    chunk: Chunk
    read: int
    rejected: int
    filtered: int
    lines: int
    name: str = ""
    damaged: bool = False
    unreadable: bool = False
    known: dict[str, int] = field(default_factory=dict)


class ChunkReader:
    """Iterates over the events of one chunk, batch by batch; afterwards `report` and `rejects` tell the rest.

    Attributes:
        rejects: rows that could not be read, in their order, unless they were taken; lines count from the
            start of the chunk.

    Raises:
        UnreadableFileError: while iterating, the file cannot be read, and bad files are not skipped.
    """

    def __init__(self, preparation: Preparation, chunk: Chunk, name: str) -> None:
        self.preparation = preparation
        self.chunk = chunk
        self.name = name
        self.rejects: list[Reject] = []
        self._read = self._filtered = self._lines = self._rejected = 0
        self._damaged = self._unreadable = False
        self._known: Counter[str] = Counter()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        spec, plan = self.preparation.spec, self.preparation.plan
        try:
            for batch in read_events(spec, plan, self.chunk, self.name):
                self._read += batch.read
                self._filtered += batch.filtered
                self._known.update(batch.known)
                self._lines = batch.lines
                self.rejects += batch.rejects
                self._rejected += len(batch.rejects)
                self._damaged |= batch.damaged is not None
                if batch.events.num_rows:
                    yield batch.events
        except UnreadableFileError as error:
            if not self.preparation.skip_bad_files:
                raise
            self._damaged = self._unreadable = True
            self.rejects.append(error.reject(self.chunk.path, self.name))
            self._rejected += 1
            self._read += 1

    def take_rejects(self) -> list[Reject]:
        """Those found since the last time: whoever takes them need not have all in memory."""
        taken, self.rejects = self.rejects, []
        return taken

    @property
    def report(self) -> ChunkReport:
        """What reading came to so far."""
        return ChunkReport(
            self.chunk,
            self._read,
            self._rejected,
            self._filtered,
            self._lines,
            self.name,
            self._damaged,
            self._unreadable,
            dict(self._known),
        )
