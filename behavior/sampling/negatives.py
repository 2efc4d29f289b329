"""Sampled negatives: items that a user did not act on, drawn for each event that is a positive."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from behavior.runtime.splitmix import GAMMA, mixed

Drawn = Literal["uniform", "popularity"]
"""What negatives are drawn by: all items alike, or by their counts."""
TRIES = 16
"""Draws for one negative, of which all that the user has had are thrown away; after so many there is none."""


def item_chances(counts: npt.NDArray[np.int64], drawn: Drawn, power: float = 1.0) -> npt.NDArray[np.float64]:
    """The probability that a draw is each item; sums to 1.

    Args:
        counts: [items] events of each item, at least one of them above 0 for `popularity`.
        drawn: `uniform`, or `popularity`: by `counts ** power` (Mikolov et al., 2013, have 0.75).
        power: of the counts.
    """
    if drawn == "uniform":
        return np.full(len(counts), 1.0 / len(counts))
    weights = np.asarray(counts, np.float64) ** power
    weights[np.asarray(counts) == 0] = 0.0
    found: npt.NDArray[np.float64] = weights / weights.sum()
    return found


def sample_negatives(
    user: npt.NDArray[np.int64],
    chances: npt.NDArray[np.float64],
    had: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    *,
    ratio: float,
    seed: int,
    keys: npt.NDArray[np.uint64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Draw negatives for positives: `ratio` each in expectation, and as nearly the same number as can be.

    A positive gets the whole part of `ratio`, and one more with the probability of the rest. No negative is
    an item that its user has had; a draw of one is repeated, at most `TRIES` times.

    Args:
        user: [positives] whose each is, from 0.
        chances: [items], as of `item_chances`.
        had: offsets [users + 1] and, rising within each user, items from 0 that the user has had.
        ratio: negatives for a positive, such as 0.2 or 4.
        seed: of the draws.
        keys: [positives] what the draws for each follow from, whatever others there are (`event_keys`); by
            default its number.

    Returns:
        The number of the positive that each negative is for, rising, and its item from 0. [negatives] int64,
        twice
    """
    if keys is None:
        keys = np.arange(len(user)).astype(np.uint64)
    keys = _next(keys ^ _next(np.full(1, seed, np.uint64)))
    each = int(ratio) + (_uniform(keys, 0) < ratio - int(ratio))
    positive = np.repeat(np.arange(len(user)), each)
    number = np.arange(len(positive)) - np.repeat(np.cumsum(each) - each, each)
    keys = _next(keys[positive] ^ _next(number.astype(np.uint64)))
    cumulative = np.cumsum(chances)
    offsets, items = had
    found = np.full(len(positive), -1, np.int64)
    missing = np.arange(len(positive))
    for attempt in range(1, 1 + TRIES):
        chance = _uniform(keys[missing], attempt) * cumulative[-1]
        draws = np.searchsorted(cumulative, chance, side="right")
        draws = np.minimum(draws, len(chances) - 1)
        fine = ~_contained(offsets, items, user[positive[missing]], draws)
        found[missing[fine]] = draws[fine]
        missing = missing[~fine]
        if not len(missing):
            break
    there = found >= 0
    return positive[there], found[there]


def event_keys(*columns: npt.NDArray) -> npt.NDArray[np.uint64]:
    """[events] 64 bits of whole numbers [events] that tell events apart: equal for equal ones alone, but for
    chance."""
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        found = _next(found ^ np.asarray(column).astype(np.int64).view(np.uint64))
    return found


def _next(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The first number of each key's stream."""
    return mixed(keys + GAMMA)


def _uniform(keys: npt.NDArray[np.uint64], number: int) -> npt.NDArray[np.float64]:
    """[keys] the number-th number in [0, 1) of each."""
    bits = _next(keys + np.uint64(number * 0xD1342543DE82EF95 % 2**64))
    found: npt.NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


@compiled
def _contained(offsets: np.ndarray, items: np.ndarray, user: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Whether each draw is among the items of its user. [draws] bool"""
    found = np.zeros(len(draws), np.bool_)
    for row in range(len(draws)):
        begin, end = offsets[user[row]], offsets[user[row] + 1]
        place = begin + np.searchsorted(items[begin:end], draws[row])
        found[row] = place < end and items[place] == draws[row]
    return found
