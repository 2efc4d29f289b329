"""Events by hash partition of users: they lie in the job's folder, and only where goes through the engine.

So no element is larger than a few numbers and the name of a file, however many events or however busy a user.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from behavior.arrow.hashing import split_by_hash
from behavior.shards.ranges import FileRange, read_ranges
from behavior.shards.storage import Folder
from pipelines.scoring.scorer import ScoringJob

SPILL_BYTES = 64 << 20


@dataclass(frozen=True)
class Piece:
    """Some events of one partition, as an Arrow stream within a file of the working folder."""

    order: tuple[int, int]
    """Number of the chunk, and of the flush within it: the order of the input."""
    file: str
    start: int
    bytes: int


class Spill:
    """Events of one chunk, kept until they are worth a file.

    Args:
        job: in whose folder the files are.
        chunk: number of the chunk.
        parts: hash partitions of users.
    """

    def __init__(self, job: ScoringJob, chunk: int, parts: int) -> None:
        self.job, self.chunk, self.parts = job, chunk, parts
        self._held: dict[int, list[pa.RecordBatch]] = {}
        self._bytes = self._flushes = 0

    def add(self, events: pa.RecordBatch) -> Iterator[tuple[int, Piece]]:
        """Take events, with the column `user`; yields (partition, piece) where enough have come together."""
        for part, own in split_by_hash(events, "user", self.parts):
            self._held.setdefault(part, []).append(own)
        self._bytes += events.nbytes
        if self._bytes >= SPILL_BYTES:
            yield from self.flush()

    def flush(self) -> Iterator[tuple[int, Piece]]:
        """Write all that is held."""
        if not self._held:
            return
        # A name of its own for every attempt: another must not touch what an earlier one told of.
        name = f"events/{self.chunk:06d}-{self._flushes:03d}-{uuid.uuid4().hex}.arrow"
        found, start = [], 0
        with self.job.work.create(name, checksum=False) as file:
            for part, batches in sorted(self._held.items()):
                stream = _stream(batches)
                file.write(stream)
                found.append((part, Piece((self.chunk, self._flushes), name, start, stream.size)))
                start += stream.size
        self._held, self._bytes, self._flushes = {}, 0, self._flushes + 1
        yield from found


def _stream(batches: list[pa.RecordBatch]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def read_pieces(work: Folder, pieces: Iterable[Piece]) -> pa.Table:
    """The events of one partition in the order of the input; of each piece, only its own bytes are read."""
    ordered = sorted(pieces, key=lambda piece: piece.order)
    ranges = [FileRange(piece.file, piece.start, piece.start + piece.bytes) for piece in ordered]
    return pa.concat_tables(pa.ipc.open_stream(data).read_all() for data in read_ranges(work, ranges))
