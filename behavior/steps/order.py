"""The order of events by user and time: a counting sort by user, then a merge sort of each user's times."""

from __future__ import annotations

import numpy as np

from behavior.runtime import scratch
from behavior.runtime.compiled import compiled

_RUN = 16
"""Events that are sorted by insertion; more of one user are merged, from runs of so many."""


def stable_order(users: np.ndarray, times: np.ndarray, num_users: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of events by (user, time), equal ones as they come.

    Args:
        users: index of each event's user. [events] int32
        times: timestamp of each event, or empty to keep the order. [events] int64
        num_users: number of users.

    Returns:
        order: position of each event in the input. [events] int64
        offsets: where each user's events begin in `order`. [num_users + 1] int64
    """
    order = scratch.empty(len(users), np.int64)
    offsets = np.zeros(num_users + 1, np.int64)
    _by_user(users, offsets, np.empty(num_users, np.int64), order)
    if len(times):
        longest = int(np.diff(offsets).max(initial=0))
        keys, first, first_keys = (scratch.empty(longest, np.int64) for _ in range(3))
        _by_time(order, offsets, times, _RUN, keys, first, first_keys)
    return order, offsets


# Nothing is allocated, sliced or assigned as a whole in these loops: each such operation takes Numba longer
# than all else in them, and the first to prepare a data set on a machine waits for it.


@compiled
def _by_user(users: np.ndarray, offsets: np.ndarray, fill: np.ndarray, order: np.ndarray) -> None:
    """Fill `order` by user alone, and `offsets`, which are zeros."""
    for user in users:
        offsets[user + 1] += 1
    for user in range(len(fill)):
        fill[user] = offsets[user]
        offsets[user + 1] += offsets[user]
    for event in range(len(users)):
        order[fill[users[event]]] = event
        fill[users[event]] += 1


@compiled
def _by_time(
    order: np.ndarray,
    offsets: np.ndarray,
    times: np.ndarray,
    shortest: int,
    keys: np.ndarray,
    first: np.ndarray,
    first_keys: np.ndarray,
) -> None:
    """Sort each user's part of `order`: runs of `shortest` by insertion, which are then merged. It is stable.

    `keys` (the times of one user), `first` and `first_keys` are working space, as long as the longest part.
    """
    for user in range(len(offsets) - 1):
        begin, size = offsets[user], offsets[user + 1] - offsets[user]
        in_order = True
        for place in range(size):
            keys[place] = times[order[begin + place]]
            in_order &= place == 0 or keys[place - 1] <= keys[place]
        if in_order:  # most logs come sorted: only users that are out of order pay for a sort
            continue
        for run in range(0, size, shortest):
            stop = run + shortest if run + shortest < size else size
            for place in range(run + 1, stop):
                key, event, to = keys[place], order[begin + place], place
                while to > run and keys[to - 1] > key:
                    keys[to], order[begin + to] = keys[to - 1], order[begin + to - 1]
                    to -= 1
                keys[to], order[begin + to] = key, event
        width = shortest
        while width < size:
            for run in range(0, size - width, 2 * width):
                stop = run + 2 * width if run + 2 * width < size else size
                _merge(order, begin, keys, run, width, stop, first, first_keys)
            width *= 2


@compiled
def _merge(
    order: np.ndarray,
    begin: int,
    keys: np.ndarray,
    run: int,
    width: int,
    end: int,
    first: np.ndarray,
    first_keys: np.ndarray,
) -> None:
    """Merge two sorted runs of one user's events, of which the second begins `width` after the first."""
    if keys[run + width - 1] <= keys[run + width]:
        return
    for place in range(width):
        first[place], first_keys[place] = order[begin + run + place], keys[run + place]
    left, right, to = 0, run + width, run
    while left < width:
        if right < end and keys[right] < first_keys[left]:
            keys[to], order[begin + to] = keys[right], order[begin + right]
            right += 1
        else:
            keys[to], order[begin + to] = first_keys[left], first[left]
            left += 1
        to += 1
    # What is left of the second run stands where it belongs.
