"""What was found about a data set's quality: estimates with intervals, and what they do not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.quality.popularity import Popularity
from behavior.quality.sums import SPREAD, QualitySums
from behavior.wording import number_of

FEW_REPEATS = 0.01
"""Share of events below which entropies of histories tell little but their lengths."""
_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap interval.

    Attributes:
        value: of all users.
        low, high: the interval, by percentiles of the replicates; None without replicates.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DataQuality:
    """Quality of a data set; entropies in nats.

    Attributes:
        part: which events were measured.
        users: with at least one event.
        events: that were measured.
        unknown_events: of unknown items, left out.
        items: that occur.
        longest: events of the longest history.
        level: of the intervals.
        replicates, seed: of the bootstrap over users.
        estimates: by name, see `MEASURES`.
        quantiles: of some measures over users, by name and share ('0.5'), rounded down to 1/64.
        notes: what the numbers do not say.
    """

    part: str
    users: int
    events: int
    unknown_events: int
    items: int
    longest: int
    level: float
    replicates: int
    seed: int
    estimates: Mapping[str, Estimate]
    quantiles: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]

    def value(self, measure: str) -> float:
        """A measure, NaN where it is not known."""
        return self.estimates[measure].value if measure in self.estimates else float("nan")

    def effective_events(self, measure: str = "lempel_ziv_entropy") -> float:
        """Effective data `D' = events / entropy` (arXiv 2412.00430 by the approximate entropy).

        NaN where the entropy is not positive: exact-match approximate entropy is not where nothing repeats.
        """
        entropy = self.value(measure)
        return self.events / entropy if entropy > 0 else float("nan")

    def to_record(self) -> dict[str, Any]:
        """As plain values, with the effective events by each entropy; `from_record` takes them."""
        effective = {name: self.effective_events(name) for name in ENTROPIES}
        known = {name: value if value > 0 else None for name, value in effective.items()}
        return asdict(self) | {"notes": list(self.notes), "effective_events": known}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> DataQuality:
        """The inverse of `to_record`."""
        estimates = {name: Estimate(**values) for name, values in record["estimates"].items()}
        values = {name: value for name, value in record.items() if name != "effective_events"}
        return cls(**{**values, "estimates": estimates, "notes": tuple(record["notes"])})


ENTROPIES = (
    *("approximate_entropy", "approximate_entropy_by_events"),
    *("lempel_ziv_entropy", "lempel_ziv_entropy_by_events"),
)
"""Estimates that events are divided by to effective events."""

MEASURES = {
    "repeat_share": "events whose item the user had before, of all events",
    "approximate_entropy": "mean over users of the approximate entropy, m = 2, exact match",
    "approximate_entropy_by_events": "the same, each user counting by the events of the history",
    "lempel_ziv_entropy": "mean over users of the Lempel-Ziv entropy ln n / mean Lambda",
    "lempel_ziv_entropy_by_events": "of all users together: sum of n ln n / sum of Lambda",
    "length_bound": "mean over users of ln n: the Lempel-Ziv entropy if no item repeated",
    "user_entropy": "mean over users of the Shannon entropy of the user's items",
    "user_entropy_by_events": "the same, each user counting by the events of the history",
    "item_entropy": "Shannon entropy of the items of all events: popularity alone",
    "gini": "Gini coefficient of the events of items that occur: 0 all alike, towards 1 few have all",
    "top_share": "events of the most frequent hundredth of the items, of all events",
}
"""What each estimate is."""

_RATIOS = {
    "repeat_share": ("repeats", "events"),
    "approximate_entropy": ("approximate", "approximate_users"),
    "approximate_entropy_by_events": ("approximate_by_events", "approximate_events"),
    "lempel_ziv_entropy": ("lempel_ziv", "lempel_ziv_users"),
    "lempel_ziv_entropy_by_events": ("information", "match_lengths"),
    "length_bound": ("length_bound", "lempel_ziv_users"),
    "user_entropy": ("shannon", "users"),
    "user_entropy_by_events": ("shannon_by_events", "events"),
    "item_entropy": ("surprisal", "events"),
    "gini": ("rank", "events"),
    "top_share": ("top", "events"),
}


def quality_of(sums: QualitySums, popularity: Popularity, part: str, level: float = 0.95) -> DataQuality:
    """What sums over all users come to.

    Args:
        sums: over every user once.
        popularity: that they were made with.
        part: which events they are of, for the record.
        level: of the intervals.
    """
    estimates = {}
    for name, (above, below) in _RATIOS.items():
        top, bottom = sums.column(above), sums.column(below)
        if bottom[0] > 0:
            estimates[name] = _estimate(top, bottom, level)
    known = {name: {share: sums.quantile(name, share) for share in _QUANTILES} for name in SPREAD}
    return DataQuality(
        part=part,
        users=int(sums.column("users")[0]),
        events=int(sums.column("events")[0]),
        unknown_events=sums.unknown,
        items=popularity.items,
        longest=sums.longest,
        level=level,
        replicates=sums.replicates,
        seed=sums.seed,
        estimates=estimates,
        quantiles={
            name: {f"{share:g}": value for share, value in values.items() if value is not None}
            for name, values in known.items()
        },
        notes=tuple(_notes(sums, estimates)),
    )


def _estimate(top: npt.NDArray[np.float64], bottom: npt.NDArray[np.float64], level: float) -> Estimate:
    drawn = bottom[1:] > 0
    value = float(top[0] / bottom[0])
    if not drawn.any():
        return Estimate(value, None, None)
    replicates = top[1:][drawn] / bottom[1:][drawn]
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def _notes(sums: QualitySums, estimates: Mapping[str, Estimate]) -> list[str]:
    notes = []
    repeats = estimates["repeat_share"].value if "repeat_share" in estimates else None
    if repeats == 0:
        notes.append(
            "no user has an item twice: approximate and Lempel-Ziv entropy follow from the lengths of "
            "histories alone, and say nothing of how predictable they are"
        )
    elif repeats is not None and repeats < FEW_REPEATS:
        notes.append(
            f"only {repeats:.2%} of the events repeat an item: approximate and Lempel-Ziv entropy tell "
            "little but the lengths of histories"
        )
    elif "approximate_entropy" in estimates and estimates["approximate_entropy"].value <= 0:
        notes.append(
            "histories are too short for the approximate entropy: it is not above 0, and gives no "
            "effective data"
        )
    if sums.unknown:
        out = number_of(sums.unknown, "event of unknown items was", "events of unknown items were")
        notes.append(f"{out} left out")
    return notes
