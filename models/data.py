"""A shard folder in memory: every sequence end to end in flat columns, ready for cutting windows from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from behavior.errors import UserError
from behavior.shards import ITEMS, SEQUENCES, ShardFolder, logical
from behavior.splits import Evaluated, evaluated_targets

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_UNITS_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_COLUMNS = ("item", "behavior", "train_end", "valid_end")


@dataclass(frozen=True)
class SequenceData:
    """All sequences of a data set, end to end.

    Sequence s holds events `offsets[s]` to `offsets[s + 1]`; events are in order of time.
    """

    item: Int32Array  # [events] item ids: 0 padding, 1..oov unknown, then known items
    behavior: Int8Array  # [events] behavior ids from 1
    timestamp: Int64Array  # [events] whole seconds; zeros where has_time is False
    offsets: Int64Array  # [sequences + 1]
    train_end: Int64Array  # [sequences] events of the training part, from the sequence's start
    valid_end: Int64Array  # [sequences] events before the test part
    has_time: bool
    target_behaviors: tuple[int, ...]
    first_item: int
    num_item_ids: int
    num_behaviors: int
    evaluated: Evaluated = "first"
    """Which target events of a part are evaluated."""
    in_baskets: bool = False
    """Whether the targets of a part are one basket: then a history ends where the part begins."""

    @property
    def num_sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_items(self) -> int:
        """Known items: the candidates of every ranking."""
        return self.num_item_ids - self.first_item

    @property
    def lengths(self) -> Int64Array:
        """[sequences] events of each sequence."""
        return np.diff(self.offsets)

    def is_target(self) -> BoolArray:
        """[events] whether an event's behavior is one that is predicted and evaluated."""
        table = np.zeros(self.num_behaviors + 1, dtype=bool)
        table[list(self.target_behaviors)] = True
        return table[self.behavior]

    def in_training(self) -> BoolArray:
        """[events] whether an event belongs to the training part."""
        position = np.arange(len(self.item)) - np.repeat(self.offsets[:-1], self.lengths)
        return position < np.repeat(self.train_end, self.lengths)


def load_sequences(shards: ShardFolder) -> SequenceData:
    """Read every sequence file of a data set into memory.

    Rows are numbered through all files in the manifest's order. Timestamps become whole seconds.

    Raises:
        UserError: a file is damaged, or its cuts do not lie inside its sequences.
    """
    manifest = shards.manifest
    timed = manifest.timestamp_unit != "none"
    columns = [*_COLUMNS, "timestamp"] if timed else list(_COLUMNS)
    tables = [shards.read_sequences(entry, columns) for entry in shards.sequence_files()]
    if sum(table.num_rows for table in tables) == 0:
        raise UserError(
            "the data set has no sequences", where=shards.where(), fix="check the filters of its spec"
        )
    table = pa.concat_tables(tables)
    lengths = np.concatenate([_list_lengths(chunk) for chunk in table.column("item").chunks])
    item = _flat(table, "item", np.int32)
    data = SequenceData(
        item=item,
        behavior=_flat(table, "behavior", np.int8),
        timestamp=_seconds(table, manifest.timestamp_unit) if timed else np.zeros(len(item), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        train_end=table.column("train_end").to_numpy().astype(np.int64),
        valid_end=table.column("valid_end").to_numpy().astype(np.int64),
        has_time=timed,
        target_behaviors=tuple(manifest.target_ids),
        first_item=shards.first_item,
        num_item_ids=shards.num_item_ids,
        num_behaviors=len(manifest.behaviors),
        evaluated=evaluated_targets(manifest.split),
        in_baskets=manifest.split["kind"] == "next_basket",
    )
    _check_cuts(data, shards)
    return data


def dataset_digest(shards: ShardFolder) -> str:
    """SHA-256 over the checksums of sequences and items: it follows the content, not the place."""
    digest = hashlib.sha256()
    for name, sha256 in sorted((logical(entry.path), entry.sha256) for entry in shards.manifest.files):
        if name == ITEMS or name.startswith(f"{SEQUENCES}/"):
            digest.update(f"{name} {sha256}\n".encode())
    return digest.hexdigest()


def repeats_targets(data: SequenceData) -> bool:
    """Whether any user has the same known item twice among the target behaviors of the training part.

    Where nobody does, an item that was taken before cannot be the next one, and rankings leave it out.
    """
    chosen = data.is_target() & data.in_training() & (data.item >= data.first_item)
    user = np.repeat(np.arange(data.num_sequences), data.lengths)[chosen]
    pairs = np.sort(user * data.num_item_ids + data.item[chosen])
    return bool((pairs[1:] == pairs[:-1]).any())


def _list_lengths(chunk: pa.Array) -> Int64Array:
    return np.diff(chunk.offsets.to_numpy()).astype(np.int64)


def _flat(table: pa.Table, column: str, dtype: type[np.generic]) -> npt.NDArray:
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table.column(column).chunks]
    return np.concatenate(parts).astype(dtype, copy=False)


def _seconds(table: pa.Table, unit: str) -> Int64Array:
    # Floor, so that two events never swap places.
    return _flat(table, "timestamp", np.int64) // _UNITS_A_SECOND[unit]


def _check_cuts(data: SequenceData, shards: ShardFolder) -> None:
    inside = (data.train_end >= 0) & (data.train_end <= data.valid_end) & (data.valid_end <= data.lengths)
    columns_agree = len(data.behavior) == len(data.item) == len(data.timestamp) == data.offsets[-1]
    if not columns_agree or not inside.all():
        raise UserError(
            "the sequences are damaged: columns of different lengths, or a cut outside its sequence",
            where=shards.where(),
            fix="prepare the data again with --overwrite",
        )
