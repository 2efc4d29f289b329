"""Samples of a step, divided among processes so that each has as many long ones."""

from __future__ import annotations

import numpy as np

from behavior.packing.balance import spread
from models.data.sequences import Int64Array

_SWAPS = 8
"""For each part, at most; mostly none or one is needed."""


def evened(weights: Int64Array, chosen: Int64Array, parts: int, most: int) -> Int64Array:
    """Deal what was chosen for a step anew: the heaviest first, each to the part with the least so far.

    Packs that are filled to the brim have the long samples in the first of them and the short ones in the
    last: as many tokens, and other work, so that in every step one process waits for another. Where a part
    comes to have more than it may, it swaps a sample for a lighter one of the emptiest.

    Args:
        weights: [pool] of each sample.
        chosen: [pool] a part, none of which has too much; -1: waits.
        parts: how many there are.
        most: what a part may have.

    Returns:
        [pool] as `chosen`, with the same samples waiting; `chosen` itself where no such division is found.
    """
    now = np.flatnonzero(chosen >= 0)
    mine = weights[now]
    part = spread(mine, parts).astype(np.int64)
    loads = np.zeros(parts, np.int64)
    np.add.at(loads, part, mine)
    for _ in range(_SWAPS * parts):
        full, empty = int(loads.argmax()), int(loads.argmin())
        if loads[full] <= most:
            dealt = chosen.copy()
            dealt[now] = part
            return dealt
        moved = _swap(mine, part, full, empty, int(loads[full] - loads[empty]))
        if moved == 0:
            break
        loads[full] -= moved
        loads[empty] += moved
    return chosen


def _swap(weights: Int64Array, part: Int64Array, full: int, empty: int, apart: int) -> int:
    """Swap a sample for a lighter one, so that two parts that are so far apart come as close as they can;
    returns by how much: 0, no swap brings them closer."""
    ours, theirs = np.flatnonzero(part == full), np.flatnonzero(part == empty)
    theirs = theirs[np.argsort(weights[theirs], kind="stable")]
    ascending = weights[theirs]
    place = np.searchsorted(ascending, weights[ours] - apart // 2)
    found = []
    for near in (place - 1, place):  # lighter ones on either side of what would be best
        near = near.clip(0, len(theirs) - 1)
        differs = weights[ours] - ascending[near]
        at = int(np.abs(2 * differs - apart).argmin())
        found.append((abs(2 * int(differs[at]) - apart), int(differs[at]), ours[at], theirs[near[at]]))
    left, moved, one, other = min(found)
    if left >= apart:
        return 0
    part[one], part[other] = empty, full
    return moved
