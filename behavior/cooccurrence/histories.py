"""The events that are counted: histories end to end in flat arrays, from a data set or from a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.cooccurrence.config import Part
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike


@dataclass(frozen=True)
class Histories:
    """Histories of users, end to end.

    Attributes:
        item: [events] int32 numbers of items, from 0; -1 where unknown: such events keep others at a
            distance, and are in no pair.
        offsets: [users + 1] int64 where each history begins, then the number of events.
        row: [users] int64 what tells the fold of a user: the row number in the data set.
        items: how many items there are.
        behavior: [events] int8 ids from 1, or None: there is one.
        behaviors: names of the behaviors, in the order of their ids.
    """

    item: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    items: int
    behavior: npt.NDArray[np.int8] | None = None
    behaviors: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.row) + 1 or self.offsets[-1] != len(self.item):
            raise ValueError(
                f"{len(self.offsets)} offsets up to {self.offsets[-1]} of {len(self.item)} events"
            )
        if self.behavior is not None and len(self.behavior) != len(self.item):
            raise ValueError(f"{len(self.behavior)} behaviors of {len(self.item)} events")
        if len(self.item) and not -1 <= self.item.min() <= self.item.max() < self.items:
            raise ValueError(f"items from {self.item.min()} to {self.item.max()}, of {self.items}")

    @property
    def popularity(self) -> npt.NDArray[np.int64]:
        """[items] events of each item."""
        return np.bincount(self.item[self.item >= 0], minlength=self.items)

    def weights(self, of: dict[str, float] | None) -> npt.NDArray[np.float64]:
        """[behaviors + 1] weights by behavior id.

        Args:
            of: by name; those not named weigh nothing. None: all weigh 1.

        Raises:
            UserError: there is no such behavior.
        """
        if of is None:
            return np.ones(len(self.behaviors) + 1)
        unknown = [name for name in of if name not in self.behaviors]
        if unknown:
            raise UserError(
                f"there is no behavior '{unknown[0]}' to count co-occurrence of",
                fix=f"there are: {', '.join(self.behaviors) or 'none'}",
            )
        return np.array([0.0, *(of.get(name, 0.0) for name in self.behaviors)])


def read_histories(data: FolderLike | ShardFolder, part: Part = "train") -> Histories:
    """The events of a part of every sequence of a data set; one file at a time is in memory besides.

    Items are numbered by their ids, less the smallest id of a known item.

    Args:
        data: a shard folder.
        part: what is counted.

    Raises:
        UserError: there is no such data set, or a file of it is damaged.
    """
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    names = shards.manifest.behaviors
    columns = ["item", *(["behavior"] if len(names) > 1 else []), "train_end", "valid_end"]
    items, behaviors, lengths = [], [], []
    for table in shards.iter_sequences(columns):
        table = table.combine_chunks()
        flat = table.column("item").combine_chunks()
        offsets = flat.offsets.to_numpy().astype(np.int64)
        offsets -= offsets[0]
        length = np.diff(offsets)
        kept = length if part == "all" else table.column(f"{part}_end").to_numpy().astype(np.int64)
        inside = np.arange(offsets[-1]) < np.repeat(offsets[:-1] + kept, length)
        items.append(_numbers(flat.flatten().to_numpy()[inside], shards.first_item))
        lengths.append(kept)
        if len(names) > 1:
            values = table.column("behavior").combine_chunks().flatten().to_numpy()
            behaviors.append(values[inside].astype(np.int8))
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return Histories(
        item=np.concatenate([np.zeros(0, np.int32), *items]),
        offsets=offsets,
        row=np.arange(len(offsets) - 1),
        items=shards.num_items,
        behavior=np.concatenate([np.zeros(0, np.int8), *behaviors]) if len(names) > 1 else None,
        behaviors=tuple(names),
    )


def _numbers(ids: npt.NDArray, first_item: int) -> npt.NDArray[np.int32]:
    return np.maximum(ids.astype(np.int32) - first_item, -1).astype(np.int32)
