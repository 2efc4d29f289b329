"""Compiled loops of long-sequence sampling, and their random numbers.

Random numbers are a function of what they are for, and have no state: a unit's sample depends neither on the
units beside it nor on who draws it. SplitMix64 (Steele, Lea, Flood 2014) gives the i-th number of a stream as
mix(key + (i + 1) * gamma); a stream's key is a hash of seed, epoch, sequence, window and purpose. Only
operations that every machine rounds alike are used, hence a logarithm of our own.
"""

from __future__ import annotations

import math

import numpy as np

from behavior.runtime.compiled import compiled, compiled_inside
from behavior.runtime.splitmix import GAMMA, mix

NEWEST, RANDOM, RECENCY = 0, 1, 2
"""Ways to choose a subset."""

FOR_WINDOW, FOR_LENGTH, FOR_CUT, FOR_QUOTA, FOR_COPIES = 1, 2, 3, 4, 5
"""Purposes of random numbers."""

_LN2 = math.log(2)
_SQRT_HALF = math.sqrt(0.5)


@compiled_inside
def _absorb(key: np.uint64, value: int | np.uint64) -> np.uint64:
    # The value is mixed first: keys of neighbors, say two epochs, must not differ by a constant.
    return mix(key ^ mix(np.uint64(value) + GAMMA))


@compiled_inside
def _stream(seed: np.uint64, epoch: int, sequence: int, window: int, purpose: int) -> np.uint64:
    # Seed and epoch take different parts: seed 1, epoch 0 is not seed 0, epoch 1.
    key = _absorb(_absorb(_absorb(GAMMA, seed), epoch), purpose)
    return _absorb(_absorb(key, sequence), window)


@compiled
def _word(key: np.uint64, index: int) -> np.uint64:
    return mix(key + (np.uint64(index) + np.uint64(1)) * GAMMA)


@compiled
def _uniform(word: np.uint64) -> float:
    """In [0, 1), a multiple of 2^-53."""
    return np.float64(np.int64(word >> np.uint64(11))) * 2.0**-53


@compiled
def _exponential(word: np.uint64) -> float:
    """A variate of the standard exponential distribution: -ln(u), to 10 digits."""
    # u in (0, 1), then u = mantissa * 2^exponent with mantissa / sqrt(1/2) between sqrt(1/2) and sqrt(2).
    mantissa, exponent = math.frexp((np.float64(np.int64(word >> np.uint64(12))) + 0.5) * 2.0**-52)
    s = (mantissa - _SQRT_HALF) / (mantissa + _SQRT_HALF)
    t = s * s
    series = 1 + t * (1 / 3 + t * (1 / 5 + t * (1 / 7 + t * (1 / 9 + t * (1 / 11)))))
    return (0.5 - exponent) * _LN2 - 2 * s * series


@compiled
def unit_draws(
    sequence: np.ndarray, window: np.ndarray, seed: np.uint64, epoch: int, purpose: int
) -> np.ndarray:
    """One number in [0, 1) for each unit. [units] float64"""
    draws = np.empty(len(sequence), np.float64)
    for unit in range(len(sequence)):
        draws[unit] = _uniform(_word(_stream(seed, epoch, sequence[unit], window[unit], purpose), 0))
    return draws


@compiled
def fill_units(
    begin: np.ndarray,
    train_end: np.ndarray,
    sequence: np.ndarray,
    counts: np.ndarray,
    reach: int,
    stride: int,
    random_window: int,
    seed: np.uint64,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Units of each row: sequence, window, start and stop.

    Args:
        counts: units of each row.
        reach: most candidates of a unit, counted back from its stop.
        stride: from one window's stop back to the next one's.
        random_window: length of the window whose place is drawn; 0 where windows end at the history's end.
    """
    total = counts.sum()
    rows = np.empty(total, np.int64)
    window = np.empty(total, np.int64)
    start = np.empty(total, np.int64)
    stop = np.empty(total, np.int64)
    unit = 0
    for row in range(len(begin)):
        inputs = train_end[row] - 1
        for number in range(counts[row]):
            end = inputs - number * stride
            places = inputs - random_window + 1
            if random_window > 0 and places > 1:
                word = _word(_stream(seed, epoch, sequence[row], number, FOR_WINDOW), 0)
                # Lemire's bounded number, of the upper 32 bits.
                drawn = ((word >> np.uint64(32)) * np.uint64(places)) >> np.uint64(32)
                end = random_window + np.int64(drawn)
            rows[unit] = sequence[row]
            window[unit] = number
            start[unit] = begin[row] + max(0, end - reach)
            stop[unit] = begin[row] + end
            unit += 1
    return rows, window, start, stop


@compiled
def count_within_quotas(
    start: np.ndarray, stop: np.ndarray, behavior: np.ndarray, limited: np.ndarray, quotas: np.ndarray
) -> np.ndarray:
    """Candidates of each unit that its quotas leave. [units] int64

    Args:
        behavior: [events] behavior ids.
        limited: ids of the behaviors that have a quota.
        quotas: the quotas, in the same order.
    """
    left = np.empty(len(start), np.int64)
    for unit in range(len(start)):
        candidates = behavior[start[unit] : stop[unit]]
        left[unit] = len(candidates)
        for which in range(len(limited)):
            count = 0
            for own in candidates:
                count += own == limited[which]
            left[unit] -= max(0, count - quotas[which])
    return left


@compiled
def choose_inputs(
    sequence: np.ndarray,
    window: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    lengths: np.ndarray,
    max_length: int,
    select: int,
    seed: np.uint64,
    epoch: int,
) -> tuple[np.ndarray, int]:
    """`lengths` of the newest `max_length` candidates of each unit, oldest first.

    Returns:
        Event indices, and the first unit that has not so many candidates, or -1.
    """
    chosen = np.empty(lengths.sum(), np.int64)
    most = 0
    for unit in range(len(lengths)):
        available = min(stop[unit] - start[unit], max_length)
        if lengths[unit] < 0 or lengths[unit] > available:
            return chosen[:0], unit
        most = max(most, available)
    keys = np.empty(most if select == RECENCY else 0, np.float64)
    at = 0
    for unit in range(len(lengths)):
        first = max(start[unit], stop[unit] - max_length)
        key = _stream(seed, epoch, sequence[unit], window[unit], FOR_CUT)
        own = chosen[at : at + lengths[unit]]
        _subset(own, first, stop[unit] - first, select, key, keys)
        at += lengths[unit]
    return chosen, -1


@compiled
def choose_within_quotas(
    sequence: np.ndarray,
    window: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    lengths: np.ndarray,
    behavior: np.ndarray,
    limited: np.ndarray,
    quotas: np.ndarray,
    quota_select: int,
    max_length: int,
    select: int,
    seed: np.uint64,
    epoch: int,
) -> tuple[np.ndarray, int]:
    """The same of the candidates that quotas leave."""
    chosen = np.empty(lengths.sum(), np.int64)
    most = (stop - start).max() if len(start) else 0
    kept = np.empty(most + 1, np.int64)  # one more: loops without a branch write before they count
    places = np.empty(most + 1, np.int64)
    ranks = np.empty(most, np.int64)
    flags = np.empty(most, np.bool_)
    keys = np.empty(most, np.float64)
    at = 0
    for unit in range(len(lengths)):
        candidates = behavior[start[unit] : stop[unit]]
        key = _stream(seed, epoch, sequence[unit], window[unit], FOR_QUOTA)
        flags[: len(candidates)] = True
        for which in range(len(limited)):
            count = 0
            for place in range(len(candidates)):
                places[count] = place
                count += candidates[place] == limited[which]
            if count > quotas[which]:
                for rank in range(count):
                    flags[places[rank]] = False
                own = ranks[: quotas[which]]
                _subset(own, 0, count, quota_select, _absorb(key, limited[which]), keys)
                for rank in own:
                    flags[places[rank]] = True
        left = 0
        for place in range(len(candidates)):
            kept[left] = start[unit] + place
            left += flags[place]
        available = min(left, max_length)
        if lengths[unit] < 0 or lengths[unit] > available:
            return chosen[:0], unit
        own = chosen[at : at + lengths[unit]]
        key = _stream(seed, epoch, sequence[unit], window[unit], FOR_CUT)
        _subset(own, left - available, available, select, key, keys)
        for rank in range(len(own)):
            own[rank] = kept[own[rank]]
        at += lengths[unit]
    return chosen, -1


@compiled_inside
def _subset(
    chosen: np.ndarray, first: int, count: int, select: int, key: np.uint64, keys: np.ndarray
) -> None:
    """Fill `chosen` with some of the numbers `first` to `first + count`, in ascending order.

    Args:
        chosen: as many as it is long are chosen, at most `count`.
        select: NEWEST: the last ones. RANDOM: every subset is equally likely. RECENCY: drawn one after
            another without replacement, the i-th number (from 1) with weight i.
        key: of the stream of random numbers.
        keys: room for `count` numbers where `select` is RECENCY.
    """
    size = len(chosen)
    if select == NEWEST or size == count or size == 0:
        for rank in range(size):
            chosen[rank] = first + count - size + rank
    elif select == RANDOM:
        _random_subset(chosen, first, count, key)
    else:
        _recent_subset(chosen, first, count, key, keys)


@compiled_inside
def _random_subset(chosen: np.ndarray, first: int, count: int, key: np.uint64) -> None:
    """Selection sampling (Knuth, volume 2, 3.4.2, algorithm S): each is taken with the share still needed."""
    size = len(chosen)
    taken = 0
    place = 0
    # Ends in time: where all that is left is needed, u * left < left holds for every u below 1.
    while taken < size:
        chosen[taken] = first + place
        taken += _uniform(_word(key, place)) * (count - place) < size - taken
        place += 1


@compiled_inside
def _recent_subset(chosen: np.ndarray, first: int, count: int, key: np.uint64, keys: np.ndarray) -> None:
    """The smallest exponential variates over weights (Efraimidis and Spirakis 2006, in logarithms)."""
    size = len(chosen)
    for place in range(count):
        keys[place] = _exponential(_word(key, place)) / (place + 1)
    largest = _kth_smallest(keys[:count].copy(), size - 1)
    taken = 0
    place = 0
    while taken < size:
        chosen[taken] = first + place
        taken += keys[place] <= largest
        place += 1


@compiled_inside
def _kth_smallest(values: np.ndarray, k: int) -> float:
    """The value that has `k` before it in ascending order (quickselect; reorders `values`)."""
    low, high = 0, len(values) - 1
    while low < high:
        # Median of three, moved to the end.
        middle = (low + high) >> 1
        if values[middle] < values[low]:
            values[middle], values[low] = values[low], values[middle]
        if values[high] < values[low]:
            values[high], values[low] = values[low], values[high]
        if values[middle] < values[high]:
            values[middle], values[high] = values[high], values[middle]
        pivot = values[high]
        border = low
        # Without a branch, which random values would have mispredicted every other time.
        for place in range(low, high):
            value = values[place]
            values[place] = values[border]
            values[border] = value
            border += value < pivot
        values[high] = values[border]
        values[border] = pivot
        if k < border:
            high = border - 1
        elif k > border:
            low = border + 1
        else:
            return pivot
    return values[low]
