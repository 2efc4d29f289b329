"""The measures in plain Python, from their formulas, by loops over loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def phi(items: Sequence[int], m: int) -> float:
    """Mean over windows of the log of the share of windows at distance zero (Pincus 1991)."""
    windows = [items[start : start + m] for start in range(len(items) - m + 1)]
    return sum(math.log(sum(a == b for b in windows) / len(windows)) for a in windows) / len(windows)


def approximate(items: Sequence[int], m: int = 2) -> float:
    return phi(items, m) - phi(items, m + 1) if len(items) > m else math.nan


def new_length(items: Sequence[int], event: int) -> int:
    """The shortest run from an event on that is not in what is before; one more than is left, if all is."""
    before = [list(items[a:b]) for a in range(event) for b in range(a + 1, event + 1)]
    for length in range(1, len(items) - event + 1):
        if list(items[event : event + length]) not in before:
            return length
    return len(items) - event + 1


def lempel_ziv(items: Sequence[int]) -> float:
    n = len(items)
    if n < 2:
        return math.nan
    return math.log(n) / (sum(new_length(items, event) for event in range(n)) / n)


def shannon(items: Sequence[int]) -> float:
    if not items:
        return math.nan
    shares = [count / len(items) for count in Counter(items).values()]
    return -sum(share * math.log(share) for share in shares)


def repeats(items: Sequence[int]) -> int:
    return sum(item in items[:event] for event, item in enumerate(items))


def gini(counts: Sequence[int]) -> float:
    """Mean absolute difference of all pairs, over twice the mean."""
    pairs = sum(abs(a - b) for a in counts for b in counts)
    return pairs / (2 * len(counts) ** 2 * (sum(counts) / len(counts)))
