"""Quality of a data set: two passes over its row groups, or over arrays, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from behavior.errors import UserError
from behavior.quality.histories import HistoryPart, Part, read_part
from behavior.quality.popularity import Popularity
from behavior.quality.result import DataQuality, quality_of
from behavior.quality.sums import QualitySums
from behavior.quality.users import user_quality
from behavior.runtime.cores import thread_count
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.row_groups import RowGroup, RowGroupReader
from behavior.shards.storage import FolderLike

T = TypeVar("T")
R = TypeVar("R")
REPLICATES = 200


def measure_quality(
    data: FolderLike | ShardFolder,
    part: Part = "train",
    *,
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
    threads: int | None = None,
) -> DataQuality:
    """Measure a data set of any size: a few row groups are in memory at a time, and a count of each item.

    The result is the same on any number of threads, and the same as that of `pipelines.quality`.

    Args:
        data: a shard folder.
        part: which events are measured.
        replicates: of the Poisson bootstrap over users; 0 for no intervals.
        level: of the intervals.
        seed: of the bootstrap.
        threads: default: `LRM_THREADS`, or the cores that are free.

    Raises:
        UserError: there is no such data set, it has no events in that part, or a file is damaged.
    """
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    reader = RowGroupReader(shards)
    at_once = threads or thread_count(os.environ)
    counts = np.zeros(shards.num_items, np.int64)

    def counted(group: RowGroup) -> tuple[npt.NDArray, npt.NDArray]:
        return item_counts(read_part(reader, group, part))

    for item, number in _in_threads(counted, reader.groups, at_once):
        counts[item] += number
    popularity = checked_popularity(counts, part, shards.where())

    def summed(group: RowGroup) -> QualitySums:
        sums = QualitySums(replicates, seed)
        sums.add(read_part(reader, group, part), popularity)
        return sums

    total = QualitySums(replicates, seed)
    for sums in _in_threads(summed, reader.groups, at_once):
        total = total.merge(sums)
    return quality_of(total, popularity, part, level)


def quality_of_arrays(
    offsets: npt.NDArray[np.int64],
    item: npt.NDArray,
    *,
    part: str = "all",
    replicates: int = REPLICATES,
    level: float = 0.95,
    seed: int = 0,
) -> DataQuality:
    """Measure histories in memory.

    Args:
        offsets: [users + 1] int64 where each history begins, from 0, then the number of events.
        item: [events] numbers of items from 0; the largest says how many there are.
        part: what the events are called in the result.
        replicates: of the Poisson bootstrap over users; 0 for no intervals.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        ValueError: the offsets are not of these events, or an item is negative.
    """
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(item) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets do not go from 0 up to the number of events, {len(item)}")
    if len(item) and item.min() < 0:
        raise ValueError(f"there is an item {item.min()}")
    popularity = Popularity.of(item, int(item.max(initial=-1)) + 1)
    sums = QualitySums(replicates, seed)
    sums.add(HistoryPart(0, offsets, item.astype(np.int32)), popularity)
    return quality_of(sums, popularity, part, level)


def iter_user_quality(data: FolderLike | ShardFolder, part: Part = "train") -> Iterator[pa.Table]:
    """The measures of each user, a table a row group, in the order of the data set's rows.

    Columns are `row` (number of the user's row in the data set), `events`, `repeats`, `approximate_entropy`,
    `lempel_ziv_entropy` and `shannon_entropy` (null where there are too few events).

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    reader = RowGroupReader(data if isinstance(data, ShardFolder) else open_shards(data))
    for group in reader.groups:
        histories = read_part(reader, group, part)
        users = user_quality(histories.offsets, histories.item)
        yield pa.table(
            {
                "row": group.first_row + np.arange(group.rows),
                "events": users.events,
                "repeats": users.repeats,
                "approximate_entropy": pa.array(users.approximate, from_pandas=True),
                "lempel_ziv_entropy": pa.array(users.lempel_ziv, from_pandas=True),
                "shannon_entropy": pa.array(users.shannon, from_pandas=True),
            }
        )


def item_counts(histories: HistoryPart) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The items of some histories, each once, and how many events each has."""
    item, number = np.unique(histories.item, return_counts=True)
    return item, number


def checked_popularity(counts: npt.NDArray[np.int64], part: str, where: str) -> Popularity:
    """The popularity of a data set's items.

    Raises:
        UserError: there are no events.
    """
    if not counts.any():
        raise UserError(
            f"there are no events of known items to measure in the part '{part}'",
            where=where,
            fix="measure all events (--part all), or check the split of the data set",
        )
    return Popularity(counts)


def _in_threads(function: Callable[[T], R], given: Sequence[T], threads: int) -> Iterable[R]:
    """Results in order; no more than two a thread are kept at a time."""
    if threads <= 1:
        yield from map(function, given)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[R]] = deque()
        for one in given:
            running.append(pool.submit(function, one))
            if len(running) >= 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
