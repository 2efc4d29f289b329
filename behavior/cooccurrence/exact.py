"""Co-occurrence from which any one user's own pairs can be subtracted: leave-one-user-out, to the last bit.

Every user's pairs are kept, summed by item and follower; the tables of everybody are their sums. Counts are
whole numbers of a small unit until the end, so that where all of a count is one user's, nothing is left of it
when that is subtracted.

Memory: some 50 bytes and 16 a table for each pair of a user, while counting; 12 bytes and 4 a table of it
stay. A user has at most `2 * (window - 1)` pairs an event.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from behavior.cooccurrence.count import UNIT
from behavior.cooccurrence.directions import Direction
from behavior.cooccurrence.exact_kernels import sums_of_rows, user_pairs
from behavior.cooccurrence.histories import Histories
from behavior.runtime.cores import thread_count

_EVENTS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class PairWeights:
    """What a pair of events counts at distance d, in events, with d < window.

    Attributes:
        tables: which tables are counted, at least one. forward: the later item follows the earlier one with
            1 / d. backward: the earlier one follows the later one with 1 / d. both: forward plus `backward`
            times backward. session: both ways, where the events are no further apart than `session_seconds`:
            with 1 / sqrt(d) within a second, else with 1 / d.
        window: pairs are counted up to this distance, itself left out.
        backward: of `both`.
        session_seconds: of `session`, which needs timestamps.
        neighbors: followers of an item that are kept, those of the highest counts of all tables together,
            ties by id; None: all.
    """

    tables: Sequence[Direction]
    window: int = 12
    backward: float = 0.5
    session_seconds: int = 600
    neighbors: int | None = None


@dataclass(frozen=True)
class ExactTables:
    """Tables over the same pairs, rows in compressed form, and every user's own share of the counts.

    Attributes:
        offsets: [items + 1] int64 where the followers of each item begin.
        follower: [pairs] int32 numbers of items, ascending within a row.
        count: [tables, pairs] float32; 0 where a pair is in other tables only.
        total: [tables, items] float32 sums of rows.
        own_row: [own rows] int64 `user row * items + item`, ascending.
        own_offsets: [own rows + 1] int64 where the pairs of each begin.
        own_place: [own pairs] int64 place in `follower` of each.
        own_count: [tables, own pairs] float32 what of the count is that user's.
        own_total: [tables, own rows] float32 sums of those.
    """

    offsets: npt.NDArray[np.int64]
    follower: npt.NDArray[np.int32]
    count: npt.NDArray[np.float32]
    total: npt.NDArray[np.float32]
    own_row: npt.NDArray[np.int64]
    own_offsets: npt.NDArray[np.int64]
    own_place: npt.NDArray[np.int64]
    own_count: npt.NDArray[np.float32]
    own_total: npt.NDArray[np.float32]

    @property
    def items(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in vars(self).values() if isinstance(values, np.ndarray))


def count_exact(
    histories: Histories,
    timestamp: npt.NDArray[np.int64] | None,
    weights: PairWeights,
    *,
    threads: int | None = None,
) -> ExactTables:
    """Count co-occurrence, and what of it every user has added. An item is no follower of itself.

    Args:
        histories: the events that count.
        timestamp: [events] seconds; None: there are none.
        weights: which pairs of them count, and how much.
        threads: how many to use, by default `behavior.runtime.thread_count`; the result is the same.

    Raises:
        ValueError: there is no table, or one needs timestamps.
    """
    if not weights.tables or ("session" in weights.tables and timestamp is None):
        raise ValueError(
            f"tables {list(weights.tables)}: there has to be one, and 'session' needs timestamps"
        )
    items = max(histories.items, 1)
    row, key, units = _pairs(histories, timestamp, weights, threads)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    pair = key[order][first]
    place = np.empty(len(key), np.int64)
    place[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(key)))
    summed = [np.add.reduceat(one[order], first) if len(first) else one for one in units]
    if weights.neighbors is not None:
        kept = _kept(pair // items, np.sum(summed, axis=0), weights.neighbors)
        pair, summed = pair[kept], [one[kept] for one in summed]
        place = np.where(kept, np.cumsum(kept) - 1, -1)[place]
        row, units, place = row[place >= 0], [one[place >= 0] for one in units], place[place >= 0]
    offsets = np.searchsorted(pair // items, np.arange(histories.items + 1))
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    own_offsets = np.append(starts, len(row))
    return ExactTables(
        offsets=offsets,
        follower=(pair % items).astype(np.int32),
        count=_counts(summed),
        total=_counts([sums_of_rows(one, offsets) for one in summed]),
        own_row=row[starts],
        own_offsets=own_offsets,
        own_place=place,
        own_count=_counts(units),
        own_total=_counts([sums_of_rows(one, own_offsets) for one in units]),
    )


def _pairs(
    histories: Histories,
    timestamp: npt.NDArray[np.int64] | None,
    weights: PairWeights,
    threads: int | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """`user row * items + item`, `item * items + follower` and the units of each table, of all users' pairs;
    ascending by both."""
    users = np.argsort(histories.row, kind="stable")
    lengths = np.diff(histories.offsets)[users]
    bounds = np.searchsorted(np.cumsum(lengths), np.arange(0, lengths.sum(), _EVENTS_AT_ONCE), side="right")
    chunks = np.split(users, np.unique(bounds[1:]))
    found = partial(
        user_pairs,
        item=histories.item,
        timestamp=np.zeros(0, np.int64) if timestamp is None else timestamp,
        offsets=histories.offsets,
        row=histories.row,
        items=max(histories.items, 1),
        weight=_weights(weights),
        seconds=weights.session_seconds,
    )
    with ThreadPoolExecutor(threads or thread_count(os.environ), "cooccurrence") as pool:
        parts = list(pool.map(found, chunks))
    rows, keys, units = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(keys), list(np.concatenate(units, axis=1))


def _weights(weights: PairWeights) -> npt.NDArray[np.int64]:
    """[tables, 2, 3, window] units by direction (along time, against it), by how far apart in time events are
    (a second, a session, more), and by distance."""
    distance = np.arange(1, weights.window, dtype=np.float64)
    along = np.zeros((2, 3, weights.window))
    along[0, :, 1:] = 1.0 / distance
    against = along[::-1]
    session = along + against
    session[:, 0, 1:] = distance**-0.5
    session[:, 2] = 0.0
    tables = {
        "both": along + weights.backward * against,
        "forward": along,
        "backward": against,
        "session": session,
    }
    return np.rint(UNIT * np.stack([tables[name] for name in weights.tables])).astype(np.int64)


def _kept(item: npt.NDArray[np.int64], count: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.bool_]:
    """[pairs] whether a pair is one of the `most` of its item with the highest counts, ties by place."""
    order = np.lexsort((-count, item))
    begin = np.flatnonzero(np.diff(item[order], prepend=-1))
    rank = np.arange(len(item)) - np.repeat(begin, np.diff(begin, append=len(item)))
    kept = np.empty(len(item), bool)
    kept[order] = rank < most
    return kept


def _counts(units: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    # Equal numbers of units are equal floats.
    return np.stack([(one / UNIT).astype(np.float32) for one in units])
