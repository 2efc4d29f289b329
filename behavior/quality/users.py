"""Measures of each user's history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.quality.approximate import approximate_entropy
from behavior.quality.lempel_ziv import match_lengths
from behavior.quality.windows import count_windows, longest_of, slots_for
from behavior.runtime import scratch
from behavior.runtime.compiled import compiled

WINDOW = 2
"""Events of a window of the approximate entropy (m)."""


@dataclass(frozen=True)
class UserQuality:
    """What the histories of some users look like, entropies in nats.

    Attributes:
        events: [users] int64 of each history.
        repeats: [users] int64 events whose item is in the history before.
        approximate: [users] float64 approximate entropy for m = 2, NaN below three events.
        match_lengths: [users] int64 sum of the `Lambda_i` of the Lempel-Ziv entropy.
        shannon: [users] float64 Shannon entropy of the items of the history, NaN without events.
    """

    events: npt.NDArray[np.int64]
    repeats: npt.NDArray[np.int64]
    approximate: npt.NDArray[np.float64]
    match_lengths: npt.NDArray[np.int64]
    shannon: npt.NDArray[np.float64]

    @property
    def lempel_ziv(self) -> npt.NDArray[np.float64]:
        """[users] float64 Lempel-Ziv entropy `ln n / mean Lambda`, NaN below two events."""
        n = self.events.astype(np.float64)
        known = n >= 2
        result = np.full(len(n), np.nan)
        result[known] = n[known] * np.log(n[known]) / self.match_lengths[known]
        return result

    @property
    def repeat_share(self) -> npt.NDArray[np.float64]:
        """[users] float64 share of events that are repeats, NaN without events."""
        return np.divide(
            self.repeats, self.events, out=np.full(len(self.events), np.nan), where=self.events > 0
        )


def user_quality(offsets: npt.NDArray[np.int64], items: npt.NDArray) -> UserQuality:
    """Measure each history; time is linear in the number of events.

    Args:
        offsets: [users + 1] int64
        items: codes of the items. [events] int32 or int64, each of at most 2^31 - 1
    """
    repeats, shannon = _repeats_and_shannon(offsets, items, *_working_space(offsets))
    return UserQuality(
        events=np.diff(offsets),
        repeats=repeats,
        approximate=approximate_entropy(offsets, items, WINDOW),
        match_lengths=match_lengths(offsets, items),
        shannon=shannon,
    )


def shannon_entropy(offsets: npt.NDArray[np.int64], items: npt.NDArray) -> npt.NDArray[np.float64]:
    """Shannon entropy of the items of each history, `- sum p ln p` by their shares p (Shannon 1948).

    Args:
        offsets: [users + 1] int64
        items: codes of the items. [events] int32 or int64

    Returns:
        [users] float64 nats, NaN without events.
    """
    return _repeats_and_shannon(offsets, items, *_working_space(offsets))[1]


def _working_space(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slots, counts and first windows of `count_windows`."""
    longest = longest_of(offsets)
    counts, first = (scratch.empty(longest + 1, np.int32) for _ in range(2))
    return scratch.empty(slots_for(longest), np.int32), counts, first


@compiled
def _repeats_and_shannon(
    offsets: np.ndarray, items: np.ndarray, slots: np.ndarray, counts: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    users = len(offsets) - 1
    repeats = np.zeros(users, np.int64)
    shannon = np.full(users, np.nan)
    slots[:] = -1
    for user in range(users):
        own = items[offsets[user] : offsets[user + 1]]
        n = len(own)
        if n:
            alike = count_windows(own, items, offsets[user], n, slots, counts, first)
            shannon[user] = np.log(n) - alike / n
            for event in range(n):
                repeats[user] += first[event] != event
    return repeats, shannon
