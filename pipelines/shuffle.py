"""The shuffle: events of one user must meet, and keep the order of the input.

One `GroupByKey` by hash partition of users, two ways to carry the events through it:

- `FileShuffle`: they are spilled to Arrow files, and only `(path, batch)` goes through the engine. For
  local runs, whose runner keeps a shuffle in memory.
- `EngineShuffle`: they go through the engine as Arrow bytes. For Dataflow, Flink and Spark.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from pipelines.job import PrepareJob

SPILL_BYTES = 128 << 20


@dataclass(frozen=True)
class Piece:
    """Some events of one hash partition; `order` gives the input's order."""

    order: tuple[int, int]
    """Chunk group, and flush within the group."""
    path: str = ""
    batch: int = 0
    data: bytes = b""


class Shuffle(Protocol):
    """Carries event batches through a GroupByKey."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        """Turn the events of some partitions into elements `(partition, piece)`."""

    def read(self, piece: Piece) -> pa.Table:
        """The events of a piece."""


class FileShuffle:
    """Spills events to one Arrow file a flush, partition by partition."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        # A name of its own for every attempt: a retried group must not touch what an earlier one emitted.
        folder = job.work.path / "spill"
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / f"{order[0]:06d}-{order[1]:03d}-{uuid.uuid4().hex}.arrow")
        schema = next(iter(parts.values())).schema
        elements: list[tuple[int, Piece]] = []
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for number, partition in enumerate(sorted(parts)):
                writer.write_batch(parts[partition].combine_chunks().to_batches()[0])
                elements.append((partition, Piece(order, path, number)))
        yield from elements

    def read(self, piece: Piece) -> pa.Table:
        with pa.memory_map(piece.path) as source:
            return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(piece.batch)])


class EngineShuffle:
    """Sends events through the engine as Arrow bytes."""

    def write(
        self, job: PrepareJob, order: tuple[int, int], parts: dict[int, pa.Table]
    ) -> Iterator[tuple[int, Piece]]:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        for partition, events in sorted(parts.items()):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, events.schema, options=options) as writer:
                writer.write_table(events)
            yield partition, Piece(order, data=sink.getvalue().to_pybytes())

    def read(self, piece: Piece) -> pa.Table:
        return pa.ipc.open_stream(piece.data).read_all()


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


def in_order(shuffle: Shuffle, pieces: Iterable[Piece]) -> list[pa.RecordBatch]:
    """The events of one partition's pieces, in input order."""
    ordered = sorted(pieces, key=lambda piece: piece.order)
    return [batch for piece in ordered for batch in shuffle.read(piece).to_batches()]
