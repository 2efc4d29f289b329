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
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from behavior.runtime import scratch
from behavior.shards.ranges import FileRange, read_ranges
from pipelines.job import PrepareJob

SPILL_BYTES = 128 << 20
ELEMENT_BYTES = 1 << 20
"""At most, of what `EngineShuffle` sends as one element (but a single event may be larger)."""
_BATCH_BYTES = 8 << 20
"""Of what is read from a piece at a time: one user may have all of it."""
KEPT_BYTES = 64 << 20
"""Events of a partition that a worker of an engine holds in memory; more are in a file."""
SPILLED = "spill"
"""Folder of the working folder with the files of `FileShuffle`."""

Piece = tuple[Any, ...]
"""Some events of one hash partition: chunk group and flush within the group, which give the input's order,
and then what the shuffle needs to find them. A plain tuple, which Beam encodes in few bytes."""


class Shuffle(Protocol):
    """Carries event batches through a GroupByKey."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        """Turn the events of some partitions into elements `(partition, piece)`."""

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.RecordBatch]:
        """The events of some pieces, one after the other."""


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
                _write_stream(sink, parts[partition], options)
                elements.append((partition, (*order, file, start, sink.tell())))
        yield from elements

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.RecordBatch]:
        ranges = [FileRange(_path(file), start, end) for _, _, file, start, end in pieces]
        for data in read_ranges(job.work, ranges):
            yield from pa.ipc.open_stream(data)


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
                _write_stream(sink, events.slice(first, rows), options)
                yield partition, (*order, part, sink.getvalue().to_pybytes())

    def read(self, job: PrepareJob, pieces: list[Piece]) -> Iterator[pa.RecordBatch]:
        for *_, data in pieces:
            yield from pa.ipc.open_stream(data)


def _path(file: str) -> str:
    return f"{SPILLED}/{file}.arrow"


def _write_stream(sink: Any, table: pa.Table, options: pa.ipc.IpcWriteOptions) -> None:
    """Write a table in batches of a few megabytes."""
    rows = max(1, table.num_rows * _BATCH_BYTES // max(1, table.nbytes))
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        for first in range(0, table.num_rows, rows):
            # Put together: a batch of a few rows costs as much as a large one.
            writer.write_table(table.slice(first, rows).combine_chunks())


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
    """The events of one partition's pieces, in input order.

    Of a local run they are mapped into memory as they lie. Else they are compressed, or come over a network:
    where they are many they go to a file of this machine, and are mapped from there.
    """
    ordered = sorted(pieces, key=lambda piece: piece[:3])
    batches = shuffle.read(job, ordered)
    if job.timed:
        return list(batches)
    found: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        found.append(batch)
        held += batch.nbytes
        if held > KEPT_BYTES:
            try:
                return scratch.kept(chain(found, batches), batch.schema)
            except OSError:  # no room there
                return list(shuffle.read(job, ordered))
    return found
