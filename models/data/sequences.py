"""Sequences in memory: end to end in flat columns, ready for cutting windows from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from behavior.errors import UserError
from behavior.shards.folder import ITEMS, SEQUENCES, ShardFolder, logical
from behavior.steps.splits import Evaluated, evaluated_targets

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_UNITS_A_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


@dataclass(frozen=True)
class About:
    """What holds for all sequences of a data set."""

    has_time: bool
    target_behaviors: tuple[int, ...]
    """Behavior ids that are predicted and evaluated."""
    first_item: int
    """The smallest id of a known item."""
    num_item_ids: int
    """Padding, unknown and known items."""
    num_behaviors: int
    evaluated: Evaluated = "first"
    """Which target events of a part are evaluated."""
    in_baskets: bool = False
    """Whether the targets of a part are one basket: then a history ends where the part begins."""

    @property
    def num_items(self) -> int:
        """Known items: the candidates of every ranking."""
        return self.num_item_ids - self.first_item

    def is_target(self) -> BoolArray:
        """[behavior ids] whether a behavior is one that is predicted and evaluated."""
        table = np.zeros(self.num_behaviors + 1, dtype=bool)
        table[list(self.target_behaviors)] = True
        return table


@dataclass(frozen=True)
class SequenceData:
    """Some sequences of a data set, end to end.

    Sequence s holds events `offsets[s]` to `offsets[s + 1]`; events are in order of time.
    """

    item: Int32Array  # [events] item ids: 0 padding, 1..oov unknown, then known items
    behavior: Int8Array  # [events] behavior ids from 1
    timestamp: Int64Array  # [events] whole seconds; zeros where the data set has no time
    offsets: Int64Array  # [sequences + 1]
    train_end: Int64Array  # [sequences] events of the training part, from the sequence's start
    valid_end: Int64Array  # [sequences] events before the test part
    row: Int64Array  # [sequences] number of the sequence in the data set
    about: About

    @property
    def num_sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64Array:
        """[sequences] events of each sequence."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Memory of the columns."""
        columns = (self.item, self.behavior, self.timestamp, self.offsets, self.train_end, self.valid_end)
        return sum(column.nbytes for column in (*columns, self.row))

    def is_target(self) -> BoolArray:
        """[events] whether an event's behavior is one that is predicted and evaluated."""
        return self.about.is_target()[self.behavior]

    def in_training(self) -> BoolArray:
        """[events] whether an event belongs to the training part."""
        position = np.arange(len(self.item)) - np.repeat(self.offsets[:-1], self.lengths)
        return position < np.repeat(self.train_end, self.lengths)


def decode_sequences(table: pa.Table, shards: ShardFolder, first_row: int) -> SequenceData:
    """Sequences from rows of a sequence file, without a copy where types and units agree.

    Args:
        table: the `stored_columns`, in one chunk each.
        shards: the data set they are from.
        first_row: number of the first row in the data set.

    Raises:
        UserError: columns do not have the same lengths, or a cut lies outside its sequence.
    """
    manifest = shards.manifest
    item = _flat(table, "item", np.int32)
    offsets = _offsets(table, "item")
    has_time = manifest.timestamp_unit != "none"
    data = SequenceData(
        item=item,
        behavior=_flat(table, "behavior", np.int8) if _several(shards) else np.ones(len(item), np.int8),
        timestamp=_seconds(table, manifest.timestamp_unit) if has_time else np.zeros(len(item), np.int64),
        offsets=offsets,
        train_end=_numbers(table, "train_end"),
        valid_end=_numbers(table, "valid_end"),
        row=np.arange(first_row, first_row + table.num_rows),
        about=about_sequences(shards),
    )
    lists = [name for name in ("behavior", "timestamp") if name in table.column_names]
    if not all(np.array_equal(offsets, _offsets(table, name)) for name in lists):
        raise _damaged("columns of different lengths", shards)
    _check(data, shards)
    return data


def stored_columns(shards: ShardFolder) -> list[str]:
    """The columns of a sequence file that `decode_sequences` takes."""
    columns = ["item", "train_end", "valid_end"]
    # A column that holds one value throughout is not worth reading.
    columns += ["behavior"] if _several(shards) else []
    return columns + (["timestamp"] if shards.manifest.timestamp_unit != "none" else [])


def _several(shards: ShardFolder) -> bool:
    return len(shards.manifest.behaviors) > 1


def about_sequences(shards: ShardFolder) -> About:
    """What holds for all sequences of a data set."""
    manifest = shards.manifest
    return About(
        has_time=manifest.timestamp_unit != "none",
        target_behaviors=tuple(manifest.target_ids),
        first_item=shards.first_item,
        num_item_ids=shards.num_item_ids,
        num_behaviors=len(manifest.behaviors),
        evaluated=evaluated_targets(manifest.split),
        in_baskets=manifest.split["kind"] == "next_basket",
    )


def concat_sequences(parts: list[SequenceData]) -> SequenceData:
    """Parts of one data set, end to end; a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.item) for part in parts)])
    moved = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("item", "behavior", "timestamp", "train_end", "valid_end", "row")
    }
    return SequenceData(offsets=np.concatenate([*moved, starts[-1:]]), about=parts[0].about, **joined)


def dataset_digest(shards: ShardFolder) -> str:
    """SHA-256 of what models learn from: sequences, items, and what the manifest says that they mean.

    It follows the content of files, not their bytes, which another version of pyarrow may write otherwise.
    Where the manifest lacks the content of one of them, as those of earlier versions do, it is taken over the
    checksums of their bytes.
    """
    named = {logical(entry.path): entry for entry in shards.manifest.files}
    files = {n: named[n] for n in sorted(named) if n == ITEMS or n.startswith(f"{SEQUENCES}/")}
    if all(entry.content for entry in files.values()):
        text = json.dumps([_meaning(shards), {name: entry.content for name, entry in files.items()}])
    else:
        text = "".join(f"{name} {entry.sha256}\n" for name, entry in files.items())
    return hashlib.sha256(text.encode()).hexdigest()


def _meaning(shards: ShardFolder) -> list[Any]:
    """What the values in the files stand for; spelled out: manifests may get more keys."""
    manifest = shards.manifest
    features = [(entry.name, entry.kind, entry.vocabulary_size) for entry in manifest.item_features]
    split = (manifest.split["kind"], evaluated_targets(manifest.split))
    return [manifest.behaviors, manifest.targets, manifest.timestamp_unit, manifest.oov, split, features]


def repeats_targets(parts: Iterable[SequenceData]) -> bool:
    """Whether any user has the same known item twice among the target behaviors of the training part.

    Where nobody does, an item that was taken before cannot be the next one, and rankings leave it out.
    """
    return any(_repeats_targets(part) for part in parts)


def _repeats_targets(data: SequenceData) -> bool:
    chosen = data.is_target() & data.in_training() & (data.item >= data.about.first_item)
    user = np.repeat(np.arange(data.num_sequences), data.lengths)[chosen]
    pairs = np.sort(user * data.about.num_item_ids + data.item[chosen])
    return bool((pairs[1:] == pairs[:-1]).any())


def _list(table: pa.Table, column: str) -> pa.ListArray:
    chunks = table.column(column).chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)


def _offsets(table: pa.Table, column: str) -> Int64Array:
    offsets = _list(table, column).offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0]


def _flat(table: pa.Table, column: str, dtype: type[np.generic]) -> npt.NDArray:
    return _list(table, column).flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _numbers(table: pa.Table, column: str) -> Int64Array:
    return table.column(column).to_numpy().astype(np.int64)


def _seconds(table: pa.Table, unit: str) -> Int64Array:
    # Floor, so that two events never swap places.
    ticks = _flat(table, "timestamp", np.int64)
    return ticks if unit == "s" else ticks // _UNITS_A_SECOND[unit]


def _check(data: SequenceData, shards: ShardFolder) -> None:
    inside = (data.train_end >= 0) & (data.train_end <= data.valid_end) & (data.valid_end <= data.lengths)
    if not inside.all():
        raise _damaged("a cut outside its sequence", shards)
    for name, ids, beyond in (
        ("item", data.item, data.about.num_item_ids),
        ("behavior", data.behavior, data.about.num_behaviors + 1),
    ):
        if len(ids) and not 1 <= ids.min() <= ids.max() < beyond:
            raise _damaged(f"ids of column '{name}' that the data set does not have", shards)


def _damaged(what: str, shards: ShardFolder) -> UserError:
    return UserError(
        f"the sequences are damaged: {what}",
        where=shards.where(),
        fix="prepare the data again with --overwrite",
    )
