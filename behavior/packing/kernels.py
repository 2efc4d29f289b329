"""Packing's compiled loops: sort by decreasing weight, best fit, least loaded part, fill.

Weights are int32 from 0 to the budget; arguments are checked by the callers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from behavior.runtime.compiled import compiled, compiled_inside

DIGIT_BITS = 12
"""Of the radix sort: 4,096 counters stay in the first-level cache."""
PACK_BITS = 31
"""Of a key that holds free space above and a pack's number below."""


class Opened(NamedTuple):
    """Packs that are open, as groups of consecutive numbers with equal free space.

    A group's key is `free << PACK_BITS | number of its first pack`. While weights decrease, the groups that
    can take the next weight form a stack with the tightest on top, and all others wait in a heap with the
    roomiest on top: a group that has taken what it can falls below the weight and goes to the heap, and when
    the weight falls to what the heap's top has free, that is tighter than all of the stack.
    """

    ready: np.ndarray  # [groups] int64 keys of the stack
    ready_packs: np.ndarray  # [groups] int64 packs of each
    full: np.ndarray  # [groups] int64 keys of the heap
    full_packs: np.ndarray  # [groups] int64
    sizes: np.ndarray  # [3] int64: groups in the stack, groups in the heap, packs opened


# What is compiled allocates, slices and assigns nothing as a whole, and calls little: each of these takes
# Numba longer than a loop, and the first to prepare a data set or to train on a machine waits for it.


def best_fit_decreasing(weights: np.ndarray, budget: int) -> np.ndarray:
    """The pack of each weight, with as many packs as it takes. [items] int32"""
    packs, most = np.empty(len(weights), np.int32), len(weights)
    place(falling_order(weights), weights, budget, most, *open_packs(most), packs)
    return packs


def falling_order(weights: np.ndarray) -> np.ndarray:
    """Positions by decreasing weight, equal ones in input order: a radix sort. [items] int32"""
    bits = max(1, int(weights.max(initial=0)).bit_length())
    passes = -(-bits // DIGIT_BITS)
    digit = -(-bits // passes)
    order, before = (np.empty(len(weights), np.int32) for _ in range(2))
    starts = np.empty((1 << digit) + 1, np.int32)
    for shift in range(0, passes * digit, digit):
        order, before = before, order
        _by_digit(weights, shift, before, order, starts)
    return order


@compiled
def _by_digit(
    weights: np.ndarray, shift: int, before: np.ndarray, order: np.ndarray, starts: np.ndarray
) -> None:
    """One pass: positions, in `before` unless it is the first pass, by a digit of their weights."""
    last = len(starts) - 2
    for place in range(len(starts)):
        starts[place] = 0
    for position in range(len(weights)):
        starts[last - (weights[position] >> shift & last) + 1] += 1
    for place in range(last):
        starts[place + 1] += starts[place]
    for position in range(len(weights)):
        item = before[position] if shift else position
        place = last - (weights[item] >> shift & last)
        order[starts[place]] = item
        starts[place] += 1


def open_packs(most: int) -> Opened:
    """No pack yet, with room for as many groups."""
    # A group has a pack of its own at least. Pages that are never written cost nothing.
    ready, ready_packs, full, full_packs = (np.empty(most + 1, np.int64) for _ in range(4))
    return Opened(ready, ready_packs, full, full_packs, np.zeros(3, np.int64))


@compiled
def place(
    order: np.ndarray,
    weights: np.ndarray,
    budget: int,
    most: int,
    ready_keys: np.ndarray,
    ready_packs: np.ndarray,
    full_keys: np.ndarray,
    full_packs: np.ndarray,
    sizes: np.ndarray,
    packs: np.ndarray,
) -> None:
    """Best fit in decreasing order: each into the pack with the least free space that holds it.

    Ties go to the lowest number; where none holds it a new pack is opened, up to `most` of them.

    Equal weights are placed together: as the tightest pack, having taken one, stays the tightest, it takes as
    many as it can before the next one's turn, and packs that are alike stay so.

    Args:
        order: positions to place, by decreasing weight. [placed] int32
        weights: [items] int32
        budget: of a pack.
        most: packs that may be open.
        ready_keys, ready_packs, full_keys, full_packs, sizes: the open packs (`Opened`), which change;
            `reopen` them before weights rise again.
        packs: the pack of each item, written where there is one. [items] int32
    """
    ready, waiting, number = sizes[0], sizes[1], sizes[2]
    at = 0
    while at < len(order):
        weight = np.int64(weights[order[at]])
        end = at + 1
        while end < len(order) and weights[order[end]] == weight:
            end += 1
        while waiting and full_keys[0] >> PACK_BITS >= weight:
            waiting -= 1
            ready_keys[ready] = full_keys[0]
            ready_packs[ready] = full_packs[0]
            ready += 1
            _take_top(full_keys, full_packs, waiting)
        while at < end:
            if not ready:
                if number == most:
                    break
                each = budget // weight if weight else end - at
                count = min(most - number, (end - at + each - 1) // each)
                ready_keys[0] = budget << PACK_BITS | number
                ready_packs[0] = count
                number += count
                ready = 1
            ready -= 1
            free = ready_keys[ready] >> PACK_BITS
            pack = ready_keys[ready] & ((1 << PACK_BITS) - 1)
            beyond = pack + ready_packs[ready]
            each = free // weight if weight else end - at
            count = min(beyond - pack, (end - at) // each)
            if count:
                _put(full_keys, full_packs, waiting, (free - each * weight) << PACK_BITS | pack, count)
                waiting += 1
            for _ in range(count):
                for _ in range(each):
                    packs[order[at]] = pack
                    at += 1
                pack += 1
            some = end - at if pack < beyond else 0  # fewer than one pack can take
            if pack + (some > 0) < beyond:
                ready_keys[ready] = free << PACK_BITS | (pack + (some > 0))
                ready_packs[ready] = beyond - pack - (some > 0)
                ready += 1
            if some:
                ready_keys[ready] = (free - some * weight) << PACK_BITS | pack
                ready_packs[ready] = 1
                ready += 1
                for _ in range(some):
                    packs[order[at]] = pack
                    at += 1
        at = end
    sizes[0], sizes[1], sizes[2] = ready, waiting, number


@compiled
def reopen(
    ready_keys: np.ndarray,
    ready_packs: np.ndarray,
    full_keys: np.ndarray,
    full_packs: np.ndarray,
    sizes: np.ndarray,
) -> None:
    """Make ready for weights of any size: all groups go to the heap."""
    while sizes[0]:
        sizes[0] -= 1
        _put(full_keys, full_packs, sizes[1], ready_keys[sizes[0]], ready_packs[sizes[0]])
        sizes[1] += 1


@compiled_inside
def _put(keys: np.ndarray, values: np.ndarray, size: int, key: int, value: int) -> None:
    """Add to a heap of some size with the largest key on top."""
    at = size
    while at and keys[(at - 1) >> 1] < key:
        keys[at] = keys[(at - 1) >> 1]
        values[at] = values[(at - 1) >> 1]
        at = (at - 1) >> 1
    keys[at] = key
    values[at] = value


@compiled_inside
def _take_top(keys: np.ndarray, values: np.ndarray, size: int) -> None:
    """Remove the largest key of a heap, which leaves some size."""
    key, value = keys[size], values[size]
    at = 0
    while 2 * at + 1 < size:
        down = 2 * at + 1
        if down + 1 < size and keys[down + 1] > keys[down]:
            down += 1
        if keys[down] <= key:
            break
        keys[at] = keys[down]
        values[at] = values[down]
        at = down
    keys[at] = key
    values[at] = value


@compiled
def least_loaded(
    order: np.ndarray, weights: np.ndarray, most: float, loads: np.ndarray, chosen: np.ndarray
) -> bool:
    """Each item in turn to the part with the least load, ties to the lowest number.

    The first items get a part each, so that none stays empty, were they without weight.

    Args:
        order: positions by decreasing weight. [items] int32
        weights: [items] int32 or float64
        most: what a part may be loaded with, in the type of `loads`.
        loads: of each part, zeros, which change. [parts] int64 or float64
        chosen: the part of each item, written. [items] int32

    Returns:
        Whether all are placed; it ends at the first item that no part can take.
    """
    parts = len(loads)
    for place in range(min(parts, len(order))):
        loads[place] = weights[order[place]]
        chosen[order[place]] = place
    heap = np.arange(parts).astype(np.int32)
    for at in range(parts // 2 - 1, -1, -1):
        _sink(heap, loads, at)
    for place in range(parts, len(order)):
        item = order[place]
        part = heap[0]
        if loads[part] + weights[item] > most:
            return False
        chosen[item] = part
        loads[part] += weights[item]
        _sink(heap, loads, 0)
    return True


@compiled_inside
def _sink(heap: np.ndarray, loads: np.ndarray, at: int) -> None:
    """Move a part of a heap with the least loaded on top to below all that are less loaded."""
    part = heap[at]
    while 2 * at + 1 < len(heap):
        down = 2 * at + 1
        if down + 1 < len(heap) and _before(loads, heap[down + 1], heap[down]):
            down += 1
        if _before(loads, part, heap[down]):
            break
        heap[at] = heap[down]
        at = down
    heap[at] = part


@compiled_inside
def _before(loads: np.ndarray, one: int, other: int) -> bool:
    return loads[one] < loads[other] or (loads[one] == loads[other] and one < other)


def fill(weights: np.ndarray, budget: int, packs: int) -> np.ndarray:
    """See `behavior.packing.balance.fill_packs`. [pool] int32"""
    pool = len(weights)
    order = falling_order(weights)
    chosen = np.empty(pool, np.int32)
    first = int(np.searchsorted(np.cumsum(weights, dtype=np.int64), packs * budget, side="right"))
    if first == pool and least_loaded(order, weights, budget, np.zeros(packs, np.int64), chosen):
        return chosen
    chosen.fill(-1)
    opened = open_packs(min(packs, pool))
    place(np.zeros(1, np.int32), weights, budget, packs, *opened, chosen)
    for beyond in (first, pool):
        reopen(*opened)
        waiting = order[(order < beyond) & (chosen[order] < 0)]
        place(waiting, weights, budget, packs, *opened, chosen)
    if opened.sizes[2] < min(packs, pool):
        fill_empty(order, chosen, opened.sizes[2], min(packs, pool))
    return chosen


@compiled
def fill_empty(order: np.ndarray, chosen: np.ndarray, used: int, packs: int) -> None:
    """Give a pack that none was opened for the lightest item that does not lie alone."""
    items = np.zeros(packs, np.int64)
    for pack in chosen:
        items[pack] += 1
    for place in range(len(order) - 1, -1, -1):
        if used == packs:
            break
        if items[chosen[order[place]]] > 1:
            items[chosen[order[place]]] -= 1
            chosen[order[place]] = used
            used += 1
