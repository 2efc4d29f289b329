"""What floors count of all histories: events of items, and what follows what."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import numpy.typing as npt
from scipy import sparse

from behavior.cooccurrence import (
    CooccurrenceConfig,
    CooccurrenceTable,
    Histories,
    count_cooccurrence,
    read_histories,
)
from behavior.shards.folder import ShardFolder
from models.data.loading import SequenceSource
from models.data.loading.part import count_items, part_of
from models.data.sequences import SequenceData
from models.evaluation.floors.names import Counts

MOST_FOLLOWERS = 500
"""Of an item, by co-occurrence: those with the highest counts. Popular items of a large log have a hundred
thousand, which costs minutes and tells next to nothing."""


@dataclass(frozen=True)
class FollowerTable:
    """What follows each item, and what it counts.

    Attributes:
        offsets: [item ids + 1] int64 where the followers of each item begin.
        follower: [pairs] int32 numbers of items, from the first known one.
        count: [pairs] float32 or float64, above 0.
    """

    offsets: npt.NDArray[np.int64]
    follower: npt.NDArray[np.int32]
    count: npt.NDArray

    @classmethod
    def empty(cls) -> FollowerTable:
        """Nothing follows."""
        return cls(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


def popularity_of(source: SequenceSource, shards: ShardFolder, counts: Counts) -> npt.NDArray[np.float64]:
    """[items] events of each known item that are counted; those of the training parts stand in the shards."""
    if counts == "train":
        return shards.items().column("train_count").to_numpy().astype(np.float64)
    return count_items(part_of(source, counts))[source.about.first_item :].astype(np.float64)


class Cooccurrence:
    """Decayed co-occurrence of items (`behavior.cooccurrence`), counted as it is asked for.

    Args:
        shards: the data set.
        counts: whose events are counted.
        popularity: [items] events of each item that are counted.
        threads: to count with.
        most_events: of evenly spread users, that are counted, at about most; None: all.
    """

    def __init__(
        self,
        shards: ShardFolder,
        counts: Counts,
        popularity: npt.NDArray[np.float64],
        threads: int,
        most_events: int | None = None,
    ) -> None:
        self._threads = threads
        self._first_item, self._popularity = shards.first_item, np.maximum(popularity, 1.0)
        histories = read_histories(shards, "train" if counts == "train" else "valid")
        self._histories = histories if most_events is None else some_of(histories, most_events)
        # One table after the other: the choice of a decay and a power asks for the same one many times.
        self._table = lru_cache(maxsize=1)(self._count)

    def table(self, *, window: int, backward: float, popularity_power: float) -> FollowerTable:
        """Followers, by the user's events at distances d < window.

        Two events count 1 / d for the item of the later one, as a follower of the earlier one's, and
        backward / d the other way; all is divided by the popularity^popularity_power of the follower.
        """
        table = self._table(window, backward)
        count = table.count
        if popularity_power:
            count = count * (self._popularity**-popularity_power).astype(np.float32)[table.follower]
        offsets = np.concatenate([np.zeros(self._first_item, np.int64), table.offsets])
        return FollowerTable(offsets, table.follower, count)

    def _count(self, window: int, backward: float) -> CooccurrenceTable:
        config = CooccurrenceConfig(window=window, backward=backward, neighbors=MOST_FOLLOWERS)
        return count_cooccurrence(self._histories, config, threads=self._threads)


def some_of(histories: Histories, most_events: int) -> Histories:
    """The histories of evenly spread users: all, or each second, or third, where those are too many."""
    step = -(-len(histories.item) // most_events)
    if step <= 1:
        return histories
    chosen = histories.row % step == 0
    lengths = np.diff(histories.offsets)
    inside = np.repeat(chosen, lengths)
    return Histories(
        item=histories.item[inside],
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[chosen])]),
        row=histories.row[chosen],
        items=histories.items,
        behavior=None if histories.behavior is None else histories.behavior[inside],
        behaviors=histories.behaviors,
    )


def transition_counts(parts: Iterable[SequenceData]) -> sparse.csr_array:
    """[item ids, known items] how often each known item came right after each item in the training parts."""
    return reduce(operator.add, map(_transition_counts, parts))


def transitions(parts: Iterable[SequenceData]) -> FollowerTable:
    """`transition_counts` as a table."""
    counts = transition_counts(parts)
    return FollowerTable(counts.indptr.astype(np.int64), counts.indices.astype(np.int32), counts.data)


def _transition_counts(data: SequenceData) -> sparse.csr_array:
    training = data.in_training()
    start = np.zeros(len(data.item), dtype=bool)
    start[data.offsets[:-1][data.lengths > 0]] = True
    following = np.flatnonzero(training & ~start & (data.item >= data.about.first_item))
    pairs = (data.item[following - 1], data.item[following] - data.about.first_item)
    shape = (data.about.num_item_ids, data.about.num_items)
    return sparse.csr_array((np.ones(len(following), np.float32), pairs), shape=shape)
