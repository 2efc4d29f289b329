"""Statistics of a data set: mergeable, so that every bucket counts its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.compiled import compiled
from behavior.sequences import flat, offsets_of

_BINS = 64  # lengths and counts in powers of two


@dataclass
class SequenceStats:
    """What one or more buckets of sequences look like."""

    users: int = 0
    events: int = 0
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    """Number of sequences with 2^k <= length < 2^(k+1)."""
    longest: int = 0
    behaviors: np.ndarray = field(default_factory=lambda: np.zeros(128, np.int64))
    """Events of each behavior id."""
    first: int | None = None
    """Earliest timestamp."""
    last: int | None = None
    entropy_sum: float = 0.0
    entropy_users: int = 0
    validated: int = 0
    """Users with a validation part."""
    tested: int = 0

    def merge(self, other: SequenceStats) -> SequenceStats:
        """Statistics of both."""
        firsts = [t for t in (self.first, other.first) if t is not None]
        lasts = [t for t in (self.last, other.last) if t is not None]
        return SequenceStats(
            self.users + other.users,
            self.events + other.events,
            self.lengths + other.lengths,
            max(self.longest, other.longest),
            self.behaviors + other.behaviors,
            min(firsts, default=None),
            max(lasts, default=None),
            self.entropy_sum + other.entropy_sum,
            self.entropy_users + other.entropy_users,
            self.validated + other.validated,
            self.tested + other.tested,
        )


def sequence_stats(sequences: pa.Table) -> SequenceStats:
    """Statistics of cut sequences (with train_end and valid_end)."""
    offsets = offsets_of(sequences)
    lengths = np.diff(offsets)
    if not len(lengths):
        return SequenceStats()
    items = flat(sequences, "item").dictionary_encode().indices.to_numpy()
    entropies = approximate_entropy(offsets, items.astype(np.int64))
    known = entropies[~np.isnan(entropies)]
    first = last = None
    if "timestamp" in sequences.column_names:
        times = flat(sequences, "timestamp").to_numpy()
        first, last = int(times.min()), int(times.max())
    train_end = sequences.column("train_end").to_numpy()
    valid_end = sequences.column("valid_end").to_numpy()
    return SequenceStats(
        users=len(lengths),
        events=int(offsets[-1]),
        lengths=_log2_histogram(lengths),
        longest=int(lengths.max()),
        behaviors=np.bincount(flat(sequences, "behavior").to_numpy(), minlength=128).astype(np.int64),
        first=first,
        last=last,
        entropy_sum=float(known.sum()),
        entropy_users=len(known),
        validated=int((train_end < valid_end).sum()),
        tested=int((valid_end < lengths).sum()),
    )


def _log2_histogram(values: np.ndarray) -> np.ndarray:
    return np.bincount(np.frexp(values)[1] - 1, minlength=_BINS).astype(np.int64)


def to_record(
    stats: SequenceStats, item_counts: np.ndarray, behaviors: list[str], unit: str
) -> dict[str, Any]:
    """Contents of stats.json.

    Args:
        stats: of all sequences.
        item_counts: events of each known item. [items] int64
        behaviors: names, in id order.
        unit: of the timestamps.
    """
    entropy = stats.entropy_sum / stats.entropy_users if stats.entropy_users else None
    return {
        "users": stats.users,
        "events": stats.events,
        "items": len(item_counts),
        "density": stats.events / max(stats.users * len(item_counts), 1),
        "sequence_length": {
            "mean": stats.events / max(stats.users, 1),
            "longest": stats.longest,
            "histogram": _histogram(stats.lengths),
        },
        "item_count": {"histogram": _histogram(_log2_histogram(item_counts[item_counts > 0]))},
        "behaviors": {name: int(stats.behaviors[number]) for number, name in enumerate(behaviors, start=1)},
        "time": {"unit": unit, "first": stats.first, "last": stats.last},
        "users_validated": stats.validated,
        "users_tested": stats.tested,
        "approximate_entropy": {"m": 2, "mean": entropy, "users": stats.entropy_users},
    }


def _histogram(bins: np.ndarray) -> list[dict[str, int]]:
    return [{"from": 1 << k, "below": 2 << k, "number": int(n)} for k, n in enumerate(bins) if n]


@compiled
def approximate_entropy(offsets: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Approximate entropy of each sequence for m = 2 under exact match (Pincus 1991; arXiv 2412.00430).

    `Phi^m` is the mean over windows of m events of `ln(share of windows equal to it)`, and
    `ApEn = Phi^2 - Phi^3`. Where no item repeats it is `ln((n - 2) / (n - 1))`: the length alone.

    Args:
        offsets: [users + 1] int64
        items: [events] int64, smaller than 2**31

    Returns:
        [users] float64, NaN for sequences of fewer than three events.
    """
    result = np.full(len(offsets) - 1, np.nan)
    for user in range(len(result)):
        own = items[offsets[user] : offsets[user + 1]]
        if len(own) >= 3:
            pairs = _ranks((own[:-1] << 31) | own[1:])
            triples = (pairs[:-1] << 31) | own[2:]
            result[user] = _phi(pairs) - _phi(triples)
    return result


@compiled
def _ranks(keys: np.ndarray) -> np.ndarray:
    """Small numbers in place of keys, equal where those are."""
    order = np.argsort(keys)
    ranks = np.zeros(len(keys), np.int64)
    for place in range(1, len(keys)):
        new = keys[order[place]] != keys[order[place - 1]]
        ranks[order[place]] = ranks[order[place - 1]] + new
    return ranks


@compiled
def _phi(keys: np.ndarray) -> float:
    """Mean log share of equal keys."""
    ordered = np.sort(keys)
    total = 0.0
    begin = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place] != ordered[begin]:
            run = place - begin
            total += run * np.log(run / len(ordered))
            begin = place
    return total / len(ordered)
