"""Lempel-Ziv entropy of sequences of ids, in time linear in their lengths.

The automaton of all that occurred so far (Blumer et al. 1985) grows by an event at a time while what follows
is looked up in it.
"""

from __future__ import annotations

import numpy as np

from behavior.quality.windows import longest_of, slots_for
from behavior.runtime import scratch
from behavior.runtime.compiled import compiled


def lempel_ziv_entropy(offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Lempel-Ziv estimate of the entropy rate of each sequence, in nats an event.

    `S = ln n / mean Lambda`, with the `Lambda` of `match_lengths` (Kontoyiannis et al. 1998, Song et al.
    2010). Where no item repeats it is `ln n`: the length alone. It comes near the entropy rate as slowly as
    `1 / ln n`.

    Args:
        offsets: [users + 1] int64
        items: codes of the items. [events] int32 or int64

    Returns:
        [users] float64, NaN for sequences of fewer than two events.
    """
    n = np.diff(offsets).astype(np.float64)
    result = np.full(len(n), np.nan)
    known = n >= 2
    result[known] = n[known] * np.log(n[known]) / match_lengths(offsets, items)[known]
    return result


def match_lengths(offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Sum over the events of each sequence of `Lambda_i`, the length of what is new at event i.

    `Lambda_i` is the length of the shortest run `x_i, x_(i+1), ...` that does not occur in `x_0 .. x_(i-1)`;
    where all that is left occurs there, one more than is left.

    Args:
        offsets: [users + 1] int64
        items: codes of the items. [events] int32 or int64

    Returns:
        [users] int64
    """
    longest = longest_of(offsets)
    # Of a sequence of n: at most 2 n states and 3 n edges (Blumer et al. 1985).
    states = scratch.empty(3 * (2 * longest + 2), np.int32).reshape(3, -1)
    edges = scratch.empty(4 * (3 * longest + 4), np.int32).reshape(4, -1)
    slots = scratch.empty(slots_for(3 * longest + 4), np.int32)
    return _sums_of_matches(offsets, items, states, edges, slots)


@compiled
def _sums_of_matches(
    offsets: np.ndarray, items: np.ndarray, states: np.ndarray, edges: np.ndarray, slots: np.ndarray
) -> np.ndarray:
    """`match_lengths`, in the working space that is given."""
    result = np.zeros(len(offsets) - 1, np.int64)
    slots[:] = -1
    for user in range(len(result)):
        own = items[offsets[user] : offsets[user + 1]]
        if len(own):
            result[user] = _sum_of_matches(own, states, edges, slots)
    return result


_LENGTH, _LINK, _HEAD = 0, 1, 2
"""Of a state: events of the longest run in it; the state of the longest shorter one; its first edge."""
_FROM, _ITEM, _TO, _NEXT = 0, 1, 2, 3


@compiled
def _sum_of_matches(items: np.ndarray, states: np.ndarray, edges: np.ndarray, slots: np.ndarray) -> int:
    """Sum of `Lambda_i` of one sequence; `slots` is empty (-1 everywhere), and left so."""
    n = len(items)
    mask = np.uint64(slots_for(3 * n + 4) - 1)
    counts = np.zeros(2, np.int64)  # states, edges
    states[_LENGTH, 0], states[_LINK, 0], states[_HEAD, 0] = 0, -1, -1
    counts[0] = 1
    last = state = matched = 0
    total = 0
    for event in range(n):
        # Here the automaton has x_0 .. x_(event-1), and `state` the run of `matched` events from `event`.
        while event + matched < n:
            edge = _find(edges, slots, mask, state, items[event + matched])
            if edge < 0:
                break
            state = edges[_TO, edge]
            matched += 1
        total += matched + 1
        if matched:
            matched -= 1
        last = _extend(items[event], last, states, edges, slots, mask, counts)
        # The shortened run, or one whose state was split, is in a state of shorter runs.
        while state > 0 and states[_LENGTH, states[_LINK, state]] >= matched:
            state = states[_LINK, state]
    slots[: mask + np.uint64(1)] = -1
    return total


@compiled
def _extend(
    item: int,
    last: int,
    states: np.ndarray,
    edges: np.ndarray,
    slots: np.ndarray,
    mask: np.uint64,
    counts: np.ndarray,
) -> int:
    """Add an item to the automaton; the state of the whole sequence."""
    new = _add_state(states, counts, states[_LENGTH, last] + 1)
    at = last
    edge = -1
    while at >= 0:
        edge = _find(edges, slots, mask, at, item)
        if edge >= 0:
            break
        _add_edge(states, edges, slots, mask, counts, at, item, new)
        at = states[_LINK, at]
    if at < 0:
        states[_LINK, new] = 0
        return new
    target = edges[_TO, edge]
    if states[_LENGTH, target] == states[_LENGTH, at] + 1:
        states[_LINK, new] = target
        return new
    copy = _add_state(states, counts, states[_LENGTH, at] + 1)
    edge = states[_HEAD, target]
    while edge >= 0:
        _add_edge(states, edges, slots, mask, counts, copy, edges[_ITEM, edge], edges[_TO, edge])
        edge = edges[_NEXT, edge]
    states[_LINK, copy] = states[_LINK, target]
    states[_LINK, target] = copy
    states[_LINK, new] = copy
    while at >= 0:
        edge = _find(edges, slots, mask, at, item)
        if edge < 0 or edges[_TO, edge] != target:
            break
        edges[_TO, edge] = copy
        at = states[_LINK, at]
    return new


@compiled
def _add_state(states: np.ndarray, counts: np.ndarray, length: int) -> int:
    new = counts[0]
    counts[0] += 1
    states[_LENGTH, new], states[_LINK, new], states[_HEAD, new] = length, 0, -1
    return new


@compiled
def _slot(state: int, item: int, mask: np.uint64) -> np.uint64:
    key = np.uint64(state) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(item)
    key *= np.uint64(0xFF51AFD7ED558CCD)
    return (key ^ (key >> np.uint64(32))) & mask


@compiled
def _find(edges: np.ndarray, slots: np.ndarray, mask: np.uint64, state: int, item: int) -> int:
    """The edge of a state by an item, -1 where there is none."""
    slot = _slot(state, item, mask)
    while slots[slot] >= 0:
        edge = slots[slot]
        if edges[_FROM, edge] == state and edges[_ITEM, edge] == item:
            return edge
        slot = (slot + np.uint64(1)) & mask
    return -1


@compiled
def _add_edge(
    states: np.ndarray,
    edges: np.ndarray,
    slots: np.ndarray,
    mask: np.uint64,
    counts: np.ndarray,
    state: int,
    item: int,
    to: int,
) -> None:
    new = counts[1]
    counts[1] += 1
    edges[_FROM, new], edges[_ITEM, new], edges[_TO, new] = state, item, to
    edges[_NEXT, new] = states[_HEAD, state]
    states[_HEAD, state] = new
    slot = _slot(state, item, mask)
    while slots[slot] >= 0:
        slot = (slot + np.uint64(1)) & mask
    slots[slot] = new
