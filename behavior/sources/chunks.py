"""A plan of the input: its files, cut into chunks that can be read in parallel."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

from behavior.sources.files import InputFile
from behavior.sources.raw import Reject

CHUNK_BYTES = 64 << 20
OPEN_BYTES = 16 << 10
"""What opening a file weighs beside its bytes when small files are put together."""


@dataclass(frozen=True, order=True)
class Chunk:
    """A part of one input file; chunks in sorted order give the input's order.

    Attributes:
        source: index of the group of event files in the spec.
        file: index of the file within the group.
        number: index of the chunk within the file.
        path: the file.
        start, end: byte range of plain text files (whole lines that begin there), or row groups of Parquet.
            end is None for a file that is read as a whole: a compressed one, or one whose fields may hold
            line feeds.
        bytes: size in the file; of Parquet, uncompressed.
    """

    source: int
    file: int
    number: int
    path: str
    start: int
    end: int | None
    bytes: int = 0


@dataclass(frozen=True)
class FileParts:
    """What is known of one good file before it is cut.

    Attributes:
        source, file, path: see `Chunk`.
        size: bytes of the file.
        whole: whether it must be read as a whole.
        groups: of Parquet, the bytes of each row group, uncompressed.
    """

    source: int
    file: int
    path: str
    size: int
    whole: bool = False
    groups: tuple[int, ...] | None = None

    def cut(self, chunk_bytes: int) -> list[Chunk]:
        """Chunks of about `chunk_bytes`, in the order of the file."""
        if self.whole:
            return [Chunk(self.source, self.file, 0, self.path, 0, None, self.size)] if self.size else []
        bounds = [*range(0, self.size, chunk_bytes), self.size]
        if self.groups is not None:
            bounds = [0, *_group_bounds(self.groups, chunk_bytes), len(self.groups)]
        return [
            Chunk(
                self.source,
                self.file,
                number,
                self.path,
                start,
                end,
                end - start if self.groups is None else sum(self.groups[start:end]),
            )
            for number, (start, end) in enumerate(itertools.pairwise(bounds))
            if end > start
        ]


@dataclass(frozen=True)
class BadFile:
    """A file that was set aside before anything was read of it.

    Attributes:
        path: the file.
        name: how messages name it.
        source: index of the group of event files in the spec.
        file: index of the file within the group.
        reason: what is wrong with it.
    """

    path: str
    name: str
    source: int
    file: int
    reason: str

    @property
    def reject(self) -> Reject:
        """The one reject that stands for the file, at line 0."""
        return Reject(self.name, 0, self.reason, "")


@dataclass(frozen=True)
class Plan:
    """What there is to read."""

    parts: list[FileParts]
    """The good event files, in the input's order."""
    files: list[InputFile]
    """All input files, tables and bad ones included."""
    bytes: int
    """Size of all event files."""
    user_type: str
    """integer or string."""
    item_type: str
    digest: str
    """SHA-256 of the names, sizes and modification times of all input files, tables included."""
    chunk_bytes: int = CHUNK_BYTES
    """Rough size of chunks and of groups of chunks."""
    bad_files: list[BadFile] = field(default_factory=list)
    """Event files that are set aside; more may be found where files are read."""

    @cached_property
    def names(self) -> dict[str, str]:
        """Path -> how messages name the file."""
        return {file.path: file.name for file in self.files}

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All there is to read, in the input's order."""
        return [chunk for part in self.parts for chunk in part.cut(self.chunk_bytes)]

    @cached_property
    def chunk_groups(self) -> list[list[Chunk]]:
        """The chunks in their order, neighbors put together to about `chunk_bytes`."""
        return list(_put_together(self.chunks, self.chunk_bytes))

    def with_chunk_bytes(self, chunk_bytes: int) -> Plan:
        """The same input cut anew, without another look at it."""
        return replace(self, chunk_bytes=chunk_bytes)


def _group_bounds(groups: tuple[int, ...], chunk_bytes: int) -> Iterator[int]:
    """Where chunks begin, the first left out."""
    size = 0
    for number, group_bytes in enumerate(groups):
        if size and size + group_bytes > chunk_bytes:
            yield number
            size = 0
        size += group_bytes


def _put_together(chunks: list[Chunk], group_bytes: int) -> Iterator[list[Chunk]]:
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        weight = chunk.bytes + OPEN_BYTES
        if group and size + weight > group_bytes + OPEN_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += weight
    if group:
        yield group
