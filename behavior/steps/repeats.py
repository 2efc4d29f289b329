"""Repeats: events whose item their user had before."""

from __future__ import annotations

import numpy as np

from behavior.runtime.compiled import compiled


@compiled
def latest_earlier(
    item: np.ndarray, begin: np.ndarray, stop: np.ndarray, wanted: np.ndarray, first_item: int
) -> np.ndarray:
    """The latest event before each target that has its item.

    Args:
        item: item ids of sequences, end to end. [events] integers
        begin: where each target's history begins. [targets] int64
        stop: where it ends, exclusive. [targets] int64
        wanted: the target's item id. [targets] integers
        first_item: the smallest id of a known item; unknown ones repeat nothing, whatever their id.

    Returns:
        The event's index in `item`; -1 where the history has none. [targets] int64
    """
    found = np.full(len(wanted), -1, np.int64)
    for target in range(len(wanted)):
        if wanted[target] >= first_item:
            for event in range(stop[target] - 1, begin[target] - 1, -1):
                if item[event] == wanted[target]:
                    found[target] = event
                    break
    return found


def repeated_events(item: np.ndarray, user: np.ndarray, first_item: int) -> tuple[int, int]:
    """How many events repeat an item of their user, and how many events there are.

    Args:
        item: item ids. [events] integers; unknown ones repeat nothing.
        user: number of the user. [events] int64
        first_item: the smallest id of a known item.
    """
    known = item >= first_item
    pairs = np.sort(user[known] * (int(item.max(initial=0)) + 1) + item[known])
    return int((pairs[1:] == pairs[:-1]).sum()), len(item)
