"""The order of events by user and time: a counting sort by user, then a merge sort of each user's times."""

from __future__ import annotations

import numpy as np

from behavior.runtime import scratch
from behavior.runtime.compiled import compiled

_RUN = 1 << 16
"""Events that are sorted in memory; more of one user are merged, from runs of so many."""


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
    offsets = _by_user(users, num_users, order)
    if len(times):
        longest = int(np.diff(offsets).max(initial=0))
        _by_time(order, offsets, times, scratch.empty(longest if longest > _RUN else 0, np.int64))
    return order, offsets


@compiled
def _by_user(users: np.ndarray, num_users: int, order: np.ndarray) -> np.ndarray:
    """Fill `order` by user alone; returns the offsets."""
    offsets = np.zeros(num_users + 1, np.int64)
    for user in users:
        offsets[user + 1] += 1
    for user in range(num_users):
        offsets[user + 1] += offsets[user]
    fill = offsets[:-1].copy()
    for event in range(len(users)):
        order[fill[users[event]]] = event
        fill[users[event]] += 1
    return offsets


@compiled
def _by_time(order: np.ndarray, offsets: np.ndarray, times: np.ndarray, space: np.ndarray) -> None:
    """Sort each user's part of `order`; `space` is as long as the longest that is merged."""
    for user in range(len(offsets) - 1):
        own = order[offsets[user] : offsets[user + 1]]
        for place in range(1, len(own)):
            if times[own[place]] < times[own[place - 1]]:
                # Most logs come sorted: only users that are out of order pay for a sort.
                _merge_sort(own, times, space)
                break


@compiled
def _merge_sort(own: np.ndarray, times: np.ndarray, space: np.ndarray) -> None:
    """Sort positions by their times, equal ones as they stand."""
    for begin in range(0, len(own), _RUN):
        run = own[begin : begin + _RUN]
        run[:] = run[np.argsort(times[run], kind="mergesort")]
    width = _RUN
    while width < len(own):
        for begin in range(0, len(own) - width, 2 * width):
            _merge(own[begin : begin + 2 * width], width, times, space)
        width *= 2


@compiled
def _merge(own: np.ndarray, middle: int, times: np.ndarray, space: np.ndarray) -> None:
    """Merge two sorted runs, of which the second begins at `middle`."""
    if times[own[middle - 1]] <= times[own[middle]]:
        return
    first = space[:middle]
    first[:] = own[:middle]
    left, right, place = 0, middle, 0
    while left < middle and right < len(own):
        if times[own[right]] < times[first[left]]:
            own[place] = own[right]
            right += 1
        else:
            own[place] = first[left]
            left += 1
        place += 1
    # What is left of the second run stands where it belongs.
    own[place : place + middle - left] = first[left:middle]
