"""Sums over users, with the weights of a bootstrap: whole numbers, which merge in any order to the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.quality.histories import HistoryPart
from behavior.quality.popularity import Popularity
from behavior.quality.users import WINDOW, UserQuality, user_quality
from behavior.runtime.compiled import compiled
from behavior.runtime.splitmix import GAMMA, mix

UNIT = 1 << 24
"""Real numbers are summed in units of 2^-24: int64 has room for the entropies of 2^35 events."""
COLUMNS = (
    *("users", "events", "repeats", "repeat_share"),
    *("approximate_users", "approximate_events", "approximate", "approximate_by_events"),
    *("lempel_ziv_users", "lempel_ziv", "length_bound", "information", "match_lengths"),
    *("shannon", "shannon_by_events"),
    *("surprisal", "rank", "top"),
)
"""What is summed up of each user: whole numbers (`_WHOLE`), and reals in units."""
_WHOLE = {"users", "events", "repeats", "approximate_users", "approximate_events", "lempel_ziv_users"} | {
    "match_lengths"
}
SPREAD = ("repeat_share", "approximate_entropy", "lempel_ziv_entropy", "shannon_entropy")
"""Measures of which there is a histogram over users."""
BIN = 1 / 64
_LOWEST = -1.0
_BINS = 1664
"""Bins from -1 to 25 nats: no history has more."""


@dataclass
class QualitySums:
    """Sums over users, mergeable.

    Attributes:
        replicates: of the bootstrap. Replicate 0 has every user once; in each other one, a user counts as
            often as a Poisson variable of mean 1 says, which follows from the seed, the user's row and the
            replicate.
        seed: of the bootstrap.
        sums: [replicates + 1, len(COLUMNS)] int64
        histograms: [len(SPREAD), bins] int64 users by each measure.
        unknown: events of unknown items, which were left out.
        longest: events of the longest history.
    """

    replicates: int
    seed: int = 0
    sums: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    histograms: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(SPREAD), _BINS), np.int64)
    )
    unknown: int = 0
    longest: int = 0

    def __post_init__(self) -> None:
        if not self.sums.size:
            self.sums = np.zeros((self.replicates + 1, len(COLUMNS)), np.int64)

    def add(self, part: HistoryPart, popularity: Popularity) -> UserQuality:
        """Add some users, each of them once in all.

        Args:
            part: their histories; their rows tell them apart.
            popularity: of the items, over all users.

        Returns:
            What was measured of each.
        """
        users = user_quality(part.offsets, part.item)
        add_weighted(self.sums, _columns(users, part, popularity), part.first_row, self.seed)
        spread = (users.repeat_share, users.approximate, users.lempel_ziv, users.shannon)
        for histogram, values in zip(self.histograms, spread, strict=True):
            known = values[~np.isnan(values)]
            bins = np.clip(np.floor((known - _LOWEST) / BIN), 0, _BINS - 1).astype(np.int64)
            histogram += np.bincount(bins, minlength=_BINS)
        self.unknown += part.unknown
        self.longest = max(self.longest, int(users.events.max(initial=0)))
        return users

    def merge(self, other: QualitySums) -> QualitySums:
        """The sums over the users of both; the order of merging does not matter.

        Raises:
            ValueError: they are of different bootstraps.
        """
        if (self.replicates, self.seed) != (other.replicates, other.seed):
            raise ValueError("sums of different bootstraps cannot be merged")
        return QualitySums(
            self.replicates,
            self.seed,
            self.sums + other.sums,
            self.histograms + other.histograms,
            self.unknown + other.unknown,
            max(self.longest, other.longest),
        )

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """[replicates + 1] float64 sums of one of `COLUMNS`."""
        values = self.sums[:, COLUMNS.index(name)].astype(np.float64)
        return values if name in _WHOLE else values / UNIT

    def quantile(self, measure: str, share: float) -> float | None:
        """What a share of the users is at or below, rounded down to `BIN`; None without users."""
        histogram = self.histograms[SPREAD.index(measure)]
        total = histogram.sum()
        if not total:
            return None
        place = int(np.searchsorted(np.cumsum(histogram), max(1, math.ceil(share * total))))
        return _LOWEST + place * BIN


def _columns(users: UserQuality, part: HistoryPart, popularity: Popularity) -> npt.NDArray[np.int64]:
    """What each user adds. [users, len(COLUMNS)] int64"""
    n = users.events.astype(np.float64)
    logarithm = np.log(np.maximum(n, 1))
    several = users.events >= 2
    values: dict[str, Any] = {
        "users": users.events > 0,
        "events": users.events,
        "repeats": users.repeats,
        "repeat_share": users.repeat_share,
        "approximate_users": users.events > WINDOW,
        "approximate_events": np.where(users.events > WINDOW, users.events, 0),
        "approximate": users.approximate,
        "approximate_by_events": users.approximate * n,
        "lempel_ziv_users": several,
        "lempel_ziv": users.lempel_ziv,
        "length_bound": logarithm,
        "information": n * logarithm,
        "match_lengths": np.where(several, users.match_lengths, 0),
        "shannon": users.shannon,
        "shannon_by_events": users.shannon * n,
    }
    for name in ("surprisal", "rank", "top"):
        total = np.concatenate([np.zeros(1), np.cumsum(getattr(popularity, name)[part.item])])
        values[name] = np.diff(total[part.offsets])
    return np.stack(
        [
            np.asarray(values[name], np.int64)
            if name in _WHOLE
            else np.rint(np.nan_to_num(values[name], nan=0.0) * UNIT).astype(np.int64)
            for name in COLUMNS
        ],
        axis=1,
    )


_POISSON = np.array(
    [
        min(int(sum(math.exp(-1) / math.factorial(k) for k in range(n + 1)) * 2**53), 2**53 - 1)
        for n in range(16)
    ],
    np.int64,
)
"""Probability of at most n, in units of 2^-53."""


@compiled
def add_weighted(sums: np.ndarray, columns: np.ndarray, first_row: int, seed: int) -> None:
    """Add each user's columns to every replicate, times the user's weight in it.

    Args:
        sums: [replicates + 1, columns] int64, of which the first is the sum without weights.
        columns: [users, columns] int64
        first_row: number of the first user.
        seed: of the weights.
    """
    start = mix(np.uint64(seed) + GAMMA)
    for user in range(len(columns)):
        key = mix(start + GAMMA * np.uint64(first_row + user + 1))
        for column in range(columns.shape[1]):
            sums[0, column] += columns[user, column]
        for replicate in range(1, len(sums)):
            draw = np.int64(mix(key + GAMMA * np.uint64(replicate)) >> np.uint64(11))
            weight = 0
            while weight < len(_POISSON) - 1 and draw >= _POISSON[weight]:
                weight += 1
            if weight:
                for column in range(columns.shape[1]):
                    sums[replicate, column] += weight * columns[user, column]
