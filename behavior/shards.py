"""Reading and writing shard folders: Parquet files, one manifest, a checksum for every file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from behavior.errors import UserError
from behavior.manifest import FileEntry, Manifest, load_manifest

SEQUENCES = "sequences"
VOCABULARY = "vocabulary"
REJECTED = "rejected"
ITEMS = "items.parquet"
USERS = "users.parquet"
STATS = "stats.json"

# Offsets and ids compress best by dictionary and RLE, which zstd then hardly slows down.
_COMPRESSION = "zstd"
# Small enough that a reader can take a part of a file, large enough for good compression.
_ROW_GROUP_EVENTS = 1_000_000


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(table: pa.Table, folder: Path, path: str, *, events: int = 0) -> FileEntry:
    """Write one Parquet file of a data set under a temporary name, then rename it.

    Args:
        table: its contents.
        folder: root of the data set (or of the job that builds it).
        path: file path relative to `folder`.
        events: events in the table, for the manifest.

    Returns:
        The manifest's entry, with the checksum.
    """
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    rows_a_group = max(1, table.num_rows * _ROW_GROUP_EVENTS // max(events, _ROW_GROUP_EVENTS))
    pq.write_table(table, temporary, compression=_COMPRESSION, row_group_size=rows_a_group)
    temporary.replace(target)
    return file_entry(folder, path, rows=table.num_rows, events=events)


def file_entry(folder: Path, path: str, *, rows: int, events: int = 0) -> FileEntry:
    """The manifest's entry for a file that is already in place."""
    target = folder / path
    return FileEntry(
        path=path, rows=rows, events=events, bytes=target.stat().st_size, sha256=sha256_of(target)
    )


class ShardFolder:
    """A finished data set, opened for reading.

    Every file is checked against its checksum when it is first read.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._entries = {entry.path: entry for entry in manifest.files}
        self._verified: set[str] = set()

    @property
    def num_items(self) -> int:
        """Known items."""
        return self.manifest.counts.items

    @property
    def first_item(self) -> int:
        """The smallest id of a known item: 0 is padding, 1..oov are unknown ones."""
        return 1 + self.manifest.oov

    @property
    def num_item_ids(self) -> int:
        """Rows of an item embedding table: padding, OOV and known items."""
        return self.first_item + self.num_items

    def sequence_files(self) -> list[FileEntry]:
        """The sequence files, in order."""
        return [entry for entry in self.manifest.files if entry.path.startswith(f"{SEQUENCES}/")]

    def read_sequences(self, entry: FileEntry, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one sequence file (all columns, or those named)."""
        return self._read(entry.path, columns)

    def iter_sequences(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the sequence files one after the other."""
        for entry in self.sequence_files():
            yield self.read_sequences(entry, columns)

    def items(self) -> pa.Table:
        """index, id, count, train_count and a column a feature; one row an item, in index order."""
        return self._read(ITEMS)

    def users(self) -> pa.Table:
        """index, id, count, train_count and a column a feature; one row a user, in index order."""
        return self._read(USERS)

    def vocabulary(self, feature: str) -> pa.Table:
        """index, value, count of one categorical feature; for a user feature the name is `user.<feature>`."""
        return self._read(f"{VOCABULARY}/{feature}.parquet")

    def verify(self) -> None:
        """Check the size and checksum of every file.

        Raises:
            UserError: for the first file that is missing or differs.
        """
        for path in self._entries:
            self._check(path)

    def _read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        if path not in self._entries:
            raise UserError(f"the data set has no file '{path}'", where=str(self.path))
        self._check(path)
        if columns is not None:
            # Parquet's reader leaves out in silence what is not there.
            there = pq.read_schema(self.path / path).names
            for name in columns:
                if name not in there:
                    where = str(self.path / path)
                    raise UserError(
                        f"there is no column '{name}'; there are: {', '.join(there)}", where=where
                    )
        return pq.read_table(self.path / path, columns=columns and list(columns), partitioning=None)

    def _check(self, path: str) -> None:
        if path in self._verified:
            return
        _check_size(self.path, self._entries[path])
        if sha256_of(self.path / path) != self._entries[path].sha256:
            raise UserError(
                f"the checksum of '{path}' is wrong: the file has changed since it was written",
                where=str(self.path / path),
                fix="restore the file, or prepare the data again with --overwrite",
            )
        self._verified.add(path)


def open_shards(folder: str | Path) -> ShardFolder:
    """Open a data set that `lrm prepare` finished.

    Raises:
        UserError: no folder, no manifest, a newer format version, or a file missing or of another size.
    """
    path = Path(folder)
    shards = ShardFolder(path, load_manifest(path))
    for entry in shards.manifest.files:
        _check_size(path, entry)
    return shards


def _check_size(folder: Path, entry: FileEntry) -> None:
    fix = "restore the file, or prepare the data again with --overwrite"
    try:
        size = (folder / entry.path).stat().st_size
    except OSError:
        raise UserError(
            f"the file '{entry.path}' of the data set is missing", where=str(folder), fix=fix
        ) from None
    if size != entry.bytes:
        raise UserError(
            f"'{entry.path}' has {size:,} bytes, not {entry.bytes:,}: its checksum is wrong",
            where=str(folder / entry.path),
            fix=fix,
        )
