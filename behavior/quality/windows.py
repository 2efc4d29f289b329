"""Equal windows of a sequence, counted in a hash table: time is linear in the number of events."""

from __future__ import annotations

import numpy as np

from behavior.runtime.compiled import compiled


@compiled
def slots_for(windows: int) -> int:
    """Size of a hash table that is at most half full: a power of two."""
    size = 8
    while size < 2 * windows:
        size *= 2
    return size


@compiled
def count_windows(
    left: np.ndarray,
    items: np.ndarray,
    begin: int,
    n: int,
    slots: np.ndarray,
    counts: np.ndarray,
    first: np.ndarray,
) -> float:
    """Sum of `c ln c` over the distinct windows (left, item), c being how often each occurs.

    Args:
        left: what makes up each window besides its item. [windows]
        items: of which those from `begin` on belong to the windows.
        begin: see `items`.
        n: number of windows.
        slots: an empty hash table (-1 everywhere), at least as large as `slots_for` says; left empty again.
        counts: working space. [windows]
        first: on return, the first window that each one equals. [windows]
    """
    mask = np.uint64(slots_for(n) - 1)
    for window in range(n):
        key = np.uint64(left[window]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(items[begin + window])
        key *= np.uint64(0xFF51AFD7ED558CCD)
        slot = (key ^ (key >> np.uint64(32))) & mask
        while True:
            other = slots[slot]
            if other < 0:
                slots[slot] = window
                counts[window] = 1
                first[window] = window
                break
            if left[other] == left[window] and items[begin + other] == items[begin + window]:
                counts[other] += 1
                first[window] = other
                break
            slot = (slot + np.uint64(1)) & mask
    total = 0.0
    for window in range(n):
        if first[window] == window and counts[window] > 1:
            total += counts[window] * np.log(counts[window])
    for used in range(mask + np.uint64(1)):
        slots[used] = -1
    return total


def longest_of(offsets: np.ndarray) -> int:
    """Length of the longest sequence."""
    return int(np.diff(offsets).max(initial=0))
