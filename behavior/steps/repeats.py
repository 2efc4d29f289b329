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


def previous_behaviors(
    item: np.ndarray, behavior: np.ndarray, offsets: np.ndarray, first_item: int
) -> np.ndarray:
    """The behavior of each event's item when its user had it last.

    Args:
        item: item ids of sequences, end to end. [events] integers
        behavior: behavior ids from 1. [events] integers
        offsets: where sequences begin. [users + 1] int64
        first_item: the smallest id of a known item.

    Returns:
        Behavior ids; 0 where the user did not have the item before, or it is not known. [events] int64
    """
    user = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((item, user))  # stable: events of an item stay in order
    again = (user[order][1:] == user[order][:-1]) & (item[order][1:] == item[order][:-1])
    found = np.zeros(len(item), np.int64)
    found[order[1:][again]] = behavior[order[:-1][again]]
    return np.where(item >= first_item, found, 0)
