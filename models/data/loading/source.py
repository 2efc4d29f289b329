"""Where sequences come from: a data set read by row groups, or arrays that are in memory already."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.row_groups import RowGroupReader
from models.data.about import About
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.decode import SequenceDecoder
from models.data.digest import dataset_digest
from models.data.sequences import Int64Array, SequenceData
from models.data.stored import check_there


class SequenceSource(Protocol):
    """Sequences in parts that can be read one by one, by any thread."""

    @property
    def about(self) -> About:
        """What holds for all sequences."""

    @property
    def columns(self) -> Columns:
        """Columns of the batches that are made of them."""

    @property
    def digest(self) -> str:
        """Follows the contents."""

    @property
    def events(self) -> Sequence[int]:
        """About how many events each part has."""

    def read(self, part: int) -> SequenceData:
        """The sequences of a part."""

    def train_ends(self, part: int) -> Int64Array:
        """[sequences] events of the training part of each sequence, read without the rest."""

    def __iter__(self) -> Iterator[SequenceData]:
        """All parts in order."""


class ShardSource:
    """A data set read by row groups; decoded ones stay in memory while they fit into `cache_bytes`.

    What is kept is what was read first, and it stays: everything is read once an epoch in a new order, so
    that giving up the oldest for the newest would keep nothing long enough to be used again.

    Args:
        shards: the data set.
        columns: of the batches that are to be made; nothing is read that they do not need.
        cache_bytes: memory for decoded row groups.

    Raises:
        UserError: the data set has no sequences, or lacks a column that is asked for.
    """

    def __init__(self, shards: ShardFolder, *, columns: Columns = CORE, cache_bytes: int = 1 << 30) -> None:
        self.columns = columns
        self._decoder = SequenceDecoder(shards, columns)
        self.about = self._decoder.about
        self._reader = RowGroupReader(shards)
        if not self._reader.groups:
            raise UserError(
                "the data set has no sequences", where=shards.where(), fix="check the filters of its spec"
            )
        self.events: Sequence[int] = [group.events for group in self._reader.groups]
        self.digest = dataset_digest(shards)
        check_there(self._decoder.stored, self._reader.columns, shards)
        self._free = cache_bytes
        self._kept: dict[int, SequenceData] = {}
        self._lock = threading.Lock()

    def read(self, part: int) -> SequenceData:
        """The sequences of a row group; read-only arrays.

        Raises:
            UserError: the file is damaged.
        """
        with self._lock:
            if part in self._kept:
                return self._kept[part]
        group = self._reader.groups[part]
        data = self._decoder.decode(self._reader.read(group, self._decoder.read), group.first_row)
        with self._lock:
            if part not in self._kept and data.nbytes <= self._free:
                self._free -= data.nbytes
                self._kept[part] = data
        return data

    def train_ends(self, part: int) -> Int64Array:
        group = self._reader.groups[part]
        return self._reader.read(group, ["train_end"]).column("train_end").to_numpy().astype("int64")

    def __iter__(self) -> Iterator[SequenceData]:
        return (self.read(part) for part in range(len(self.events)))


class MemorySource:
    """Sequences that are in memory, as parts of one data set.

    Args:
        parts: at least one; their `row` numbers must not repeat.
    """

    def __init__(self, parts: Sequence[SequenceData]) -> None:
        self.parts = list(parts)
        self.about, self.columns = self.parts[0].about, self.parts[0].columns
        digest = hashlib.sha256()
        for part in self.parts:
            for column in (part.row, part.train_end, part.item):
                digest.update(column.tobytes())
        self.digest = digest.hexdigest()
        self.events: Sequence[int] = [len(part.item) for part in self.parts]

    def read(self, part: int) -> SequenceData:
        return self.parts[part]

    def train_ends(self, part: int) -> Int64Array:
        return self.parts[part].train_end

    def __iter__(self) -> Iterator[SequenceData]:
        return iter(self.parts)
