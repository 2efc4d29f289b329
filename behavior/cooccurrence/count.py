"""Counting co-occurrence: every source item by itself, so that threads share the items and sums are exact.

No pair of events is ever stored. The events of an item are found by an inverted index, their neighbors' items
are summed in an array of all items, and the highest sums are written out. Counts are whole numbers of a small
unit: sums do not depend on the order of users, and what a fold adds can be taken away to the last bit.

Memory: 15 bytes a counted event; for each thread 24 bytes an item, 8 more an item and table, and 64 MB of
rows; twice 8 bytes a pair of each table.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from behavior.cooccurrence.config import CooccurrenceConfig
from behavior.cooccurrence.folds import fold_of
from behavior.cooccurrence.histories import Histories
from behavior.cooccurrence.kernels import by_item, fill_rows, mark_folds
from behavior.cooccurrence.table import CooccurrenceTable, CrossFitted
from behavior.runtime.cores import thread_count

UNIT = math.lcm(*range(1, 23))
"""Of counts: 1 / d is a whole number of it for every d below 23; weights are rounded to it."""

_ROOM = 8 << 20
"""Pairs of all tables whose rows are found at once."""

MOST_FOLDS = 64


def count_cooccurrence(
    histories: Histories, config: CooccurrenceConfig | None = None, *, threads: int | None = None
) -> CooccurrenceTable:
    """Count which items come near which in users' histories.

    Args:
        histories: the events that count.
        config: which pairs of them count, and how much.
        threads: how many to use, by default `behavior.runtime.thread_count`; the result is the same.

    Raises:
        UserError: the settings name a behavior that there is not.
    """
    return _count(histories, config or CooccurrenceConfig(), folds=1, threads=threads)[0]


def cross_fit(
    histories: Histories,
    config: CooccurrenceConfig | None = None,
    *,
    folds: int = 4,
    threads: int | None = None,
) -> CrossFitted:
    """Count co-occurrence so that a model can learn from it without meeting a user's own events there.

    Users fall into folds by their rows (`fold_of`); the table for users of a fold is counted of all others.
    All tables come from one pass.

    Args:
        histories, config, threads: as of `count_cooccurrence`.
        folds: 2 to 64.

    Raises:
        UserError: the settings name a behavior that there is not.
    """
    if not 2 <= folds <= MOST_FOLDS:
        raise ValueError(f"{folds} folds: use 2 to {MOST_FOLDS}")
    *without, everybody = _count(histories, config or CooccurrenceConfig(), folds=folds, threads=threads)
    return CrossFitted(tuple(without), everybody)


@dataclass(frozen=True)
class _Rows:
    """Rows of one table, one after the other."""

    lengths: npt.NDArray[np.int64]
    follower: npt.NDArray[np.int32]
    count: npt.NDArray[np.float32]


def _count(
    histories: Histories, config: CooccurrenceConfig, folds: int, threads: int | None
) -> list[CooccurrenceTable]:
    begin, events = by_item(histories.item, histories.items)
    most = min(config.neighbors or histories.items, max(histories.items, 1))
    # A row has no more followers than the windows around its events hold.
    pairs = np.minimum(np.diff(begin) * (2 if config.backward else 1) * (config.window - 1), most)
    fold = np.asarray(fold_of(histories.row, folds), np.int64)
    fill = partial(
        fill_rows,
        begin=begin,
        events=events,
        item=histories.item,
        behavior=np.zeros(0, np.int8) if histories.behavior is None else histories.behavior,
        marks=mark_folds(histories.offsets, fold, len(histories.item)),
        weight=_weights(histories, config),
        scale=_scale(histories, config),
        folds=folds,
        most=most,
        repeats=config.repeats,
        stochastic=config.stochastic,
    )

    def rows(bounds: tuple[int, int]) -> list[_Rows]:
        first, stop = bounds
        found = fill(first, stop, room=int(pairs[first:stop].sum()))
        used = found[0].sum(1)
        return [
            _Rows(lengths, follower[:end].copy(), count[:end].copy())
            for lengths, follower, count, end in zip(*found, used, strict=True)
        ]

    tables = folds + 1 if folds > 1 else 1
    with ThreadPoolExecutor(threads or thread_count(os.environ), "cooccurrence") as pool:
        parts = list(pool.map(rows, _chunks(pairs, max(1, _ROOM // tables))))
    return [_table([part[number] for part in parts]) for number in range(tables)]


def _chunks(pairs: npt.NDArray[np.int64], room: int) -> list[tuple[int, int]]:
    """Ranges of rows that have at most `room` pairs together, or one row."""
    chunks, first, held = [], 0, 0
    for row, count in enumerate(pairs.tolist()):
        if row > first and held + count > room:
            chunks.append((first, row))
            first, held = row, 0
        held += count
    return [*chunks, (first, len(pairs))] if len(pairs) else []


def _table(parts: list[_Rows]) -> CooccurrenceTable:
    lengths = [np.zeros(1, np.int64), *(part.lengths for part in parts)]
    return CooccurrenceTable(
        offsets=np.cumsum(np.concatenate(lengths)),
        follower=np.concatenate([np.zeros(0, np.int32), *(part.follower for part in parts)]),
        count=np.concatenate([np.zeros(0, np.float32), *(part.count for part in parts)]),
    )


def _weights(histories: Histories, config: CooccurrenceConfig) -> npt.NDArray[np.int64]:
    """[2, behaviors + 1, behaviors + 1, window] what a pair counts, in units (`add_pairs`)."""
    distance = np.arange(config.window)
    by_distance = np.concatenate([[0.0], distance[1:].astype(np.float64) ** -config.power])
    source, follower = histories.weights(config.source), histories.weights(config.follower)
    if histories.behavior is None:  # all are 0 in the loops
        source, follower = source[-1:], follower[-1:]
    pair = source[:, None, None] * follower[:, None] * by_distance
    return np.rint(UNIT * np.stack([pair, config.backward * pair])).astype(np.int64)


def _scale(histories: Histories, config: CooccurrenceConfig) -> npt.NDArray[np.float64]:
    """[items] what counts in units are multiplied by."""
    popularity = np.maximum(histories.popularity, 1).astype(np.float64)
    return popularity**-config.popularity_power / UNIT
