"""The shuffle: events of one user must meet, and keep the order of the input.

One `GroupByKey` by hash partition of users, two ways to carry the events through it:

- `FileShuffle`: they are spilled to files of the job's working folder, and only where each piece lies goes
  through the engine, some 80 bytes. A runner holds a group as one element, and all that is on its way to a
  worker in memory: this keeps both small, however many events there are and however many a user has.
- `EngineShuffle`: they go through the engine themselves, as Arrow bytes, in elements of a megabyte at most.
  For engines with a shuffle service that reads groups piece by piece, as Dataflow's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from behavior.shards.ranges import FileRange, read_ranges
from pipelines.job import PrepareJob

SPILL_BYTES = 128 << 20
ELEMENT_BYTES = 1 << 20
"""At most, of what `EngineShuffle` sends as one element (but a single event may be larger)."""
_FOLDER = "spill"

Piece = tuple[Any, ...]
"""Some events of one hash partition: chunk group and flush within the group, which give the input's order,
and then what the shuffle needs to find them. A plain tuple, which Beam encodes in few bytes."""


class Shuffle(Protocol):
    """Carries event batches through a GroupByKey."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        """Turn the events of some partitions into elements `(partition, piece)`."""

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.Table]:
        """The events of each piece."""


class FileShuffle:
    """Spills events to one file a flush, in which the piece of each partition is an Arrow stream of its own.

    A piece is `(group, flush, file, start, end)`.
    """

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        # A name of its own for every attempt: a retried group must not touch what an earlier one emitted.
        file = uuid.uuid4().hex
        # Within a machine, pages of memory are cheaper than compression; between machines it is the reverse.
        options = pa.ipc.IpcWriteOptions(compression=None if job.timed else "lz4")
        elements: list[tuple[int, Piece]] = []
        with job.work.create(_path(file), checksum=False) as opened, pa.PythonFile(opened, "w") as sink:
            for partition in sorted(parts):
                start = sink.tell()
                _write_stream(sink, parts[partition].combine_chunks(), options)
                elements.append((partition, (*order, file, start, sink.tell())))
        yield from elements

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.Table]:
        ranges = [FileRange(_path(file), start, end) for _, _, file, start, end in pieces]
        for data in read_ranges(job.work, ranges):
            yield pa.ipc.open_stream(data).read_all()


class EngineShuffle:
    """Sends events through the engine as Arrow bytes. A piece is `(group, flush, part, bytes)`."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        for partition, events in sorted(parts.items()):
            rows = max(1, events.num_rows * ELEMENT_BYTES // max(1, events.nbytes))
            for part, first in enumerate(range(0, events.num_rows, rows)):
                sink = pa.BufferOutputStream()
                # Put together: a slice of a chunk would be written with what lies around it.
                _write_stream(sink, pa.concat_tables([events.slice(first, rows)]).combine_chunks(), options)
                yield partition, (*order, part, sink.getvalue().to_pybytes())

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.Table]:
        for *_, data in pieces:
            yield pa.ipc.open_stream(data).read_all()


def _path(file: str) -> str:
    return f"{_FOLDER}/{file}.arrow"


def _write_stream(sink: Any, table: pa.Table, options: pa.ipc.IpcWriteOptions) -> None:
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)


class Buffer:
    """Collects events by partition until they are worth a flush."""

    def __init__(self, job: PrepareJob, shuffle: Shuffle, group: int) -> None:
        self.job = job
        self.shuffle = shuffle
        self.group = group
        self.flushes = 0
        self.bytes = 0
        self.parts: dict[int, list[pa.RecordBatch]] = {}

    def add(self, events: pa.RecordBatch) -> Iterator[tuple[int, Piece]]:
        """Take events; flush where enough have come together."""
        for partition, rows in split_by_hash(events, "user", self.job.preparation.partitions):
            self.parts.setdefault(partition, []).append(rows)
        self.bytes += events.nbytes
        if self.bytes >= SPILL_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[tuple[int, Piece]]:
        """Hand on all that is held."""
        if self.parts:
            tables = {partition: pa.Table.from_batches(batches) for partition, batches in self.parts.items()}
            yield from self.shuffle.write(self.job, (self.group, self.flushes), tables)
        self.flushes += 1
        self.bytes = 0
        self.parts = {}


def in_order(job: PrepareJob, shuffle: Shuffle, pieces: Iterable[Piece]) -> list[pa.RecordBatch]:
    """The events of one partition's pieces, in input order."""
    ordered = sorted(pieces, key=lambda piece: piece[:3])
    return [batch for table in shuffle.read(job, ordered) for batch in table.to_batches()]
