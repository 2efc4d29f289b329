"""Writing the files of a data set: each whole or not at all, with its checksum for the manifest."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from behavior.shards.content import content_digest
from behavior.shards.manifest import FileEntry
from behavior.shards.names import sequence_file, versioned
from behavior.shards.storage import Folder, FolderLike, as_folder

_COMPRESSION = "zstd"
_LARGEST_PLAIN = 1 << 20
"""Bytes of text that anyone may want to look into as it is."""
_GZIP_LEVEL, _GZIP = 3, 31
"""Rejects repeat themselves: little is gained above. A header without time or name, for equal bytes."""
# Small enough that a reader can take a part of a file, large enough for good compression.
_ROW_GROUP_EVENTS = 1_000_000


@dataclass(frozen=True)
class ShardWriter:
    """Writes the files of one version of a data set; small, so that it travels to workers.

    Files are named logically: the version's mark is added (`behavior.shards.names`).

    Attributes:
        folder: root of the data set.
        partitions: number of hash partitions of users, each of which has one sequence file.
        version: of the data set.
    """

    folder: Folder
    partitions: int
    version: int = 1

    def table(self, name: str, table: pa.Table, *, events: int = 0) -> FileEntry:
        """Write a Parquet file; see `write_table`."""
        return write_table(table, self.folder, versioned(name, self.version), events=events)

    def sequences(self, partition: int, table: pa.Table, *, events: int) -> FileEntry:
        """Write the sequence file of a partition of users."""
        return self.table(sequence_file(partition, self.partitions), table, events=events)

    def lines(self, name: str, lines: Iterable[str]) -> FileEntry:
        """Write a file of text lines; see `write_lines`."""
        return write_lines(lines, self.folder, versioned(name, self.version))

    def text_pieces(self, name: str, pieces: Iterable[tuple[int, pa.Buffer]]) -> FileEntry:
        """Write a file of text lines, compressed if it is large; see `write_text_pieces`."""
        return write_text_pieces(pieces, self.folder, versioned(name, self.version))

    def text(self, name: str, text: str) -> FileEntry:
        """Write a UTF-8 file."""
        path = versioned(name, self.version)
        with self.folder.create(path) as file:
            file.write(text.encode())
        return FileEntry(path=path, rows=0, events=0, bytes=file.bytes, sha256=file.sha256)


def write_table(table: pa.Table, folder: FolderLike, path: str, *, events: int = 0) -> FileEntry:
    """Write one Parquet file of a data set, whole or not at all.

    Args:
        table: its contents.
        folder: root of the data set (or of the job that builds it).
        path: file path relative to `folder`.
        events: events in the table, for the manifest.

    Returns:
        The manifest's entry, with the checksum and the digest of the content.
    """
    rows_a_group = max(1, table.num_rows * _ROW_GROUP_EVENTS // max(events, _ROW_GROUP_EVENTS))
    with as_folder(folder).create(path) as file:
        pq.write_table(table, file, row_group_size=rows_a_group, **_encoding(table.schema))
    return FileEntry(
        path=path,
        rows=table.num_rows,
        events=events,
        bytes=file.bytes,
        sha256=file.sha256,
        content=content_digest(table),
    )


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: what is small and fast was measured on sequences of 20 million events.

    Behaviors and domains have few values and fit a dictionary; trying one for items and times costs a third
    of the writing time for nothing. Times rise slowly: their differences take a third of the space.
    """
    leaves = {field.name: _leaf(field) for field in schema}
    few = [leaves[name] for name in ("behavior", "domain") if name in leaves]
    few += [leaves[f.name] for f in schema if pa.types.is_string(_value_type(f.type)) and f.name != "user"]
    encoding = {leaves["timestamp"]: "DELTA_BINARY_PACKED"} if "timestamp" in leaves else None
    return {
        "compression": _COMPRESSION,
        "compression_level": 1,
        "use_dictionary": few or False,
        "column_encoding": encoding,
    }


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def _leaf(field: pa.Field) -> str:
    """The name of a column within a Parquet file."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def write_lines(lines: Iterable[str], folder: FolderLike, path: str) -> FileEntry:
    """Write one file of text lines, such as rejects, whole or not at all, line by line.

    Args:
        lines: without their line feeds.
        folder: root of the data set.
        path: file path relative to `folder`.

    Returns:
        The manifest's entry: a row is a line.
    """
    rows = 0
    with as_folder(folder).create(path) as file:
        for line in lines:
            file.write(f"{line}\n".encode())
            rows += 1
    return FileEntry(path=path, rows=rows, events=0, bytes=file.bytes, sha256=file.sha256)


def write_text_pieces(pieces: Iterable[tuple[int, pa.Buffer]], folder: FolderLike, path: str) -> FileEntry:
    """Write one file of text lines, whole or not at all: over a MiB with gzip, as `path` + `.gz`.

    Args:
        pieces: number of lines, and the lines with their line feeds.
        folder: root of the data set.
        path: file path relative to `folder`.

    Returns:
        The manifest's entry: a row is a line.
    """
    rest, held, size = iter(pieces), list[tuple[int, pa.Buffer]](), 0
    for piece in rest:
        held.append(piece)
        size += piece[1].size
        if size > _LARGEST_PLAIN:
            break
    packer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP) if size > _LARGEST_PLAIN else None
    path, rows = path if packer is None else f"{path}.gz", 0
    with as_folder(folder).create(path) as file:
        for number, text in chain(held, rest):
            file.write(text if packer is None else packer.compress(text))
            rows += number
        file.write(b"" if packer is None else packer.flush())
    return FileEntry(path=path, rows=rows, events=0, bytes=file.bytes, sha256=file.sha256)


def file_entry(folder: FolderLike, path: str, *, rows: int, events: int = 0) -> FileEntry:
    """The manifest's entry for a file that is already in place."""
    folder = as_folder(folder)
    return FileEntry(path=path, rows=rows, events=events, bytes=folder.size(path), sha256=folder.sha256(path))
