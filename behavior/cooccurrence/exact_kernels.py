"""Compiled loops of co-occurrence by user: the pairs of each history, summed by item and follower."""

from __future__ import annotations

import numpy as np

from behavior.runtime.compiled import compiled


@compiled
def user_pairs(
    users: np.ndarray,
    item: np.ndarray,
    timestamp: np.ndarray,
    offsets: np.ndarray,
    row: np.ndarray,
    items: int,
    weight: np.ndarray,
    seconds: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of some users.

    Args:
        users: [users] which of the histories.
        item: [events] numbers of items, -1 unknown.
        timestamp: [events] seconds, or empty: none are known.
        offsets: [histories + 1].
        row: [histories] row numbers in the data set.
        items: how many there are.
        weight: [tables, 2, 3, window] int64 as `behavior.cooccurrence.exact` makes them.
        seconds: how far apart events of a session are, at most.

    Returns:
        `row * items + item` and `item * items + follower`, [pairs] int64 each, user by user, ascending within
        each; and [tables, pairs] int64 units. Pairs that no table counts are left out.
    """
    tables, window = weight.shape[0], weight.shape[3]
    room, most = 0, 0
    for user in users:
        length = offsets[user + 1] - offsets[user]
        room += 2 * length * min(window - 1, max(length - 1, 0))
        most = max(most, 2 * length * min(window - 1, max(length - 1, 0)))
    rows, pairs = np.empty(room, np.int64), np.empty(room, np.int64)
    units = np.zeros((tables, room), np.int64)
    keys, codes = np.empty(most, np.int64), np.empty(most, np.int64)
    used = 0
    for user in users:
        begin, stop = offsets[user], offsets[user + 1]
        met = 0
        for one in range(begin, stop):
            if item[one] < 0:
                continue
            for other in range(one + 1, min(one + window, stop)):
                if item[other] < 0 or item[other] == item[one]:
                    continue
                near = 2
                if len(timestamp) > 0:
                    apart = timestamp[other] - timestamp[one]
                    if apart <= seconds:
                        near = 0 if apart <= 1 else 1
                code = near * window + other - one
                keys[met] = np.int64(item[one]) * items + item[other]
                codes[met] = code
                keys[met + 1] = np.int64(item[other]) * items + item[one]
                codes[met + 1] = 3 * window + code
                met += 2
        order = np.argsort(keys[:met])
        last = np.int64(-1)
        for place in order:
            key, code = keys[place], codes[place]
            direction, near, distance = code // (3 * window), code // window % 3, code % window
            counts = False
            for table in range(tables):
                counts |= weight[table, direction, near, distance] > 0
            if not counts:
                continue
            if key != last:
                pairs[used] = key
                rows[used] = row[user] * items + key // items
                used += 1
                last = key
            for table in range(tables):
                units[table, used - 1] += weight[table, direction, near, distance]
    return rows[:used].copy(), pairs[:used].copy(), units[:, :used].copy()


@compiled
def sums_of_rows(units: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """[rows] int64 sums of `units[offsets[row]:offsets[row + 1]]`."""
    sums = np.zeros(len(offsets) - 1, np.int64)
    for row in range(len(sums)):
        for place in range(offsets[row], offsets[row + 1]):
            sums[row] += units[place]
    return sums
