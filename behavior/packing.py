"""Packing: sequences are put together to a token budget, so that no token is padding."""

from __future__ import annotations

import numpy as np

from behavior.compiled import compiled
from behavior.errors import UserError


def pack_lengths(lengths: np.ndarray, budget: int) -> np.ndarray:
    """Put sequences into packs of at most `budget` tokens, by best fit in order of falling length.

    Best fit decreasing needs at most 11/9 of the fewest packs possible and four more (Johnson 1973), in
    practice hardly one more. Equal lengths go in input order and packs are numbered as they are opened, so
    the result depends on nothing but the arguments. Time is linear in the number of sequences, but for a
    search over free space that takes budget/64 steps at worst.

    Args:
        lengths: tokens of each sequence. [sequences] integer, 0 <= length <= budget
        budget: tokens of a pack.

    Returns:
        The number of each sequence's pack, counted from 0. [sequences] int32

    Raises:
        UserError: a sequence is longer than the budget, or a length is negative.
    """
    lengths = np.ascontiguousarray(lengths, np.int64)
    if budget < 1:
        raise UserError(f"a pack of {budget} tokens can hold nothing", fix="use a larger budget")
    if len(lengths) and (lengths.max() > budget or lengths.min() < 0):
        worst = int(np.argmax((lengths > budget) | (lengths < 0)))
        raise UserError(
            f"sequence {worst} has {lengths[worst]:,} tokens, a pack holds 0 to {budget:,}",
            fix="shorten it to a window first, or use a larger budget",
        )
    return _best_fit_decreasing(lengths, budget)


@compiled
def _best_fit_decreasing(lengths: np.ndarray, budget: int) -> np.ndarray:
    order = _by_falling_length(lengths, budget)
    # Packs with equal free space form a stack: `top[free]` is its newest pack, `below[pack]` the next one.
    # A bit set of the stacks that are not empty finds the smallest free space that fits.
    top = np.full(budget + 1, -1, np.int64)
    below = np.empty(len(lengths), np.int64)
    words = np.zeros(budget // 64 + 1, np.uint64)
    packs = np.empty(len(lengths), np.int32)
    opened = 0
    for sequence in order:
        length = lengths[sequence]
        free = _next_bit(words, length)
        if free < 0:
            pack = opened
            opened += 1
            free = budget
        else:
            pack = top[free]
            top[free] = below[pack]
            if top[free] < 0:
                words[free >> 6] &= ~(np.uint64(1) << np.uint64(free & 63))
        packs[sequence] = pack
        left = free - length
        below[pack] = top[left]
        top[left] = pack
        words[left >> 6] |= np.uint64(1) << np.uint64(left & 63)
    return packs


@compiled
def _by_falling_length(lengths: np.ndarray, budget: int) -> np.ndarray:
    """A stable counting sort."""
    starts = np.zeros(budget + 2, np.int64)
    for length in lengths:
        starts[budget - length + 1] += 1
    for place in range(budget + 1):
        starts[place + 1] += starts[place]
    order = np.empty(len(lengths), np.int64)
    for sequence in range(len(lengths)):
        place = budget - lengths[sequence]
        order[starts[place]] = sequence
        starts[place] += 1
    return order


@compiled
def _next_bit(words: np.ndarray, first: int) -> int:
    """The lowest set bit at or above `first`, or -1."""
    word = words[first >> 6] >> np.uint64(first & 63)
    if word:
        return first + _trailing_zeros(word)
    for index in range((first >> 6) + 1, len(words)):
        if words[index]:
            return (index << 6) + _trailing_zeros(words[index])
    return -1


@compiled
def _trailing_zeros(word: np.uint64) -> int:
    count = 0
    for step in (32, 16, 8, 4, 2, 1):
        low = (np.uint64(1) << np.uint64(step)) - np.uint64(1)
        if not word & low:
            word >>= np.uint64(step)
            count += step
    return count
