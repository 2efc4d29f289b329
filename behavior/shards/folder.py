"""Reading a finished data set: its manifest, and a checksum for every file."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from behavior.errors import UserError
from behavior.shards.checked import DatasetChecks
from behavior.shards.damage import PREPARE_AGAIN, check_json, damaged, decoding, parse_json
from behavior.shards.manifest import FileEntry, Manifest, load_manifest
from behavior.shards.names import ITEMS, PARTITION_STATS, SEQUENCES, STATS, USERS, VOCABULARY, logical
from behavior.shards.owned import refuse_links
from behavior.shards.statistics import PartitionFile, Statistics
from behavior.shards.storage import Folder, FolderLike, as_folder

_RESTORE = "restore the file, or prepare the data again with --overwrite"


class ShardFolder:
    """A finished data set, opened for reading.

    Every file is checked against its checksum when it is first read, and every table against what the
    manifest says of it. All methods raise `UserError` for a file that is missing, has changed or is damaged.

    Attributes:
        folder: where it is.
        manifest: what it holds.
        checks: of what is read.
    """

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        # By either name: those who list the files ask by path.
        self._entries = {logical(entry.path): entry for entry in manifest.files}
        self._entries |= {entry.path: entry for entry in manifest.files}
        self._verified: set[str] = set()
        self._checking = {entry.path: threading.Lock() for entry in manifest.files}
        self.checks = DatasetChecks(manifest, self.where)

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

    def where(self, name: str = "") -> str:
        """How messages name the data set, or a file of it by its logical name."""
        entry = self._entries.get(name)
        return self.folder.where(entry.path if entry else name)

    def sequence_files(self) -> list[FileEntry]:
        """The sequence files, in order of their logical names."""
        found = [entry for entry in self.manifest.files if entry.path.startswith(f"{SEQUENCES}/")]
        return sorted(found, key=lambda entry: logical(entry.path))

    def read_sequences(self, entry: FileEntry, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one sequence file (all columns, or those named)."""
        return self.checks.sequences(entry, self._read("sequences", entry.path, columns))

    def iter_sequences(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the sequence files one after the other."""
        for entry in self.sequence_files():
            yield self.read_sequences(entry, columns)

    def items(self) -> pa.Table:
        """index, id, count, train_count and a column a feature; one row an item, in index order."""
        return self.checks.items(self._entry(ITEMS), self._read("items", ITEMS))

    def users(self) -> pa.Table:
        """index, id, count, train_count and a column a feature; one row a user, in index order."""
        return self.checks.users(self._entry(USERS), self._read("users", USERS))

    def vocabulary(self, feature: str) -> pa.Table:
        """index, value, count of one categorical feature; for a user feature the name is `user.<feature>`."""
        name = f"{VOCABULARY}/{feature}.parquet"
        return self.checks.vocabulary(self._entry(name), self._read("vocabularies", name))

    def stats(self) -> dict[str, Any]:
        """Histograms and shares, for people; see docs/shards.md."""
        record = self._json(STATS, Statistics, "statistics")
        self._check_totals(STATS, [record])
        said = self.manifest.behaviors, self.manifest.timestamp_unit
        if said != (list(record["behaviors"]), record["time"]["unit"]):
            what = "their behaviors or unit of time are not the manifest's"
            raise damaged("statistics", what, self.where(STATS))
        return record

    def partition_stats(self) -> dict[str, dict[str, Any]]:
        """What `stats` sums up, of each hash partition of users by its number (`behavior.steps.stats`)."""
        records = self._json(PARTITION_STATS, PartitionFile, "statistics")
        self._check_totals(PARTITION_STATS, records.values())
        return records

    def _json(self, name: str, schema: type[BaseModel], of: str) -> dict[str, Any]:
        """The plain values of a JSON file that its schema allows."""
        where = self.where(name)
        with closing(self._open(self._entry(name))) as source:
            try:
                record = parse_json(bytes(source.read()))
            except ValueError as error:
                raise damaged(of, f"the file is not JSON: {error}", where) from None
        check_json(record, schema, of, where)
        return dict(record)

    def _check_totals(self, name: str, records: Iterable[dict[str, Any]]) -> None:
        for key, said in (("users", self.manifest.counts.users), ("events", self.manifest.counts.events)):
            there = sum(record[key] for record in records)
            if there != said:
                what = f"they count {there:,} {key}, the manifest counts {said:,}"
                raise damaged("statistics", what, self.where(name))

    def verify(self) -> None:
        """Check the size and checksum of every file.

        Raises:
            UserError: for the first file that is missing or differs.
        """
        for entry in self.manifest.files:
            self.check(entry)

    def _entry(self, name: str) -> FileEntry:
        if name not in self._entries:
            what = f"the data set has no file '{name}'"
            raise UserError(what, where=self.where(), fix=PREPARE_AGAIN)
        return self._entries[name]

    def _read(self, of: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        with closing(self._open(self._entry(name))) as source, decoding(of, self.where(name)):
            if columns is not None:
                check_columns(pq.read_schema(source).names, columns, self.where(name))
            return pq.read_table(source, columns=columns and list(columns), partitioning=None)

    def _open(self, entry: FileEntry) -> Any:
        """A file for pyarrow, once its checksum is found right."""
        if self.folder.is_local or entry.path in self._verified:
            self.check(entry)
            return self.folder.input_file(entry.path)
        # The whole file must come over the network to be checked: once is enough.
        _check_size(self.folder, entry, self._size(entry))
        data = self.folder.read_bytes(entry.path)
        self._confirm(entry, hashlib.sha256(data).hexdigest())
        return pa.BufferReader(data)

    def check(self, entry: FileEntry) -> None:
        """Check a file's size and checksum, once however many threads ask.

        Raises:
            UserError: it is missing or differs.
        """
        with self._checking[entry.path]:
            if entry.path in self._verified:
                return
            _check_size(self.folder, entry, self._size(entry))
            self._confirm(entry, self._sha256(entry))

    def _size(self, entry: FileEntry) -> int | None:
        """None where there certainly is no such file."""
        try:
            return self.folder.size(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(entry, error) from error

    def _sha256(self, entry: FileEntry) -> str:
        try:
            return self.folder.sha256(entry.path)
        except OSError as error:
            raise self._unreadable(entry, error) from error

    def _unreadable(self, entry: FileEntry, error: OSError) -> UserError:
        permitted = not isinstance(error, PermissionError)
        return UserError(
            f"'{entry.path}' cannot be read: {error.strerror or error}",
            where=self.folder.where(entry.path),
            fix="check the folder and its disk" if permitted else "check the permissions",
        )

    def _confirm(self, entry: FileEntry, sha256: str) -> None:
        if sha256 != entry.sha256:
            raise UserError(
                f"the checksum of '{entry.path}' is wrong: the file has changed since it was written",
                where=self.folder.where(entry.path),
                fix=_RESTORE,
            )
        self._verified.add(entry.path)


def check_columns(there: Iterable[str], wanted: Iterable[str], where: str) -> None:
    """Raise UserError for a wanted column that is not there: Parquet's reader leaves it out in silence."""
    there = list(there)
    for column in wanted:
        if column not in there:
            what = f"there is no column '{column}'; there are: {', '.join(there)}"
            raise UserError(what, where=where, fix=PREPARE_AGAIN)


def open_shards(folder: FolderLike) -> ShardFolder:
    """Open a data set that `lrm prepare` finished, in a local folder or at a URL such as `gs://bucket/data`.

    Raises:
        UserError: no folder, no manifest, a newer format version, or a file missing or of another size.
    """
    folder = as_folder(folder)
    manifest = load_manifest(folder)
    refuse_links(folder)
    shards = ShardFolder(folder, manifest)
    sizes = folder.sizes()
    for entry in shards.manifest.files:
        size = sizes.get(entry.path)
        # A listing passes over folders that may not be read.
        _check_size(folder, entry, shards._size(entry) if size is None else size)
    shards.checks.totals()
    return shards


def _check_size(folder: Folder, entry: FileEntry, size: int | None) -> None:
    if size is None:
        raise UserError(
            f"the file '{entry.path}' of the data set is missing", where=folder.where(), fix=_RESTORE
        )
    if size != entry.bytes:
        raise UserError(
            f"'{entry.path}' has {size:,} bytes, not {entry.bytes:,}: its checksum is wrong",
            where=folder.where(entry.path),
            fix=_RESTORE,
        )
