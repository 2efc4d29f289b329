"""Statistics of a data set: mergeable, so that every partition counts its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.arrow.coded import codes_of
from behavior.quality.approximate import approximate_entropy
from behavior.runtime.compiled import compiled
from behavior.steps.sequences import flat, offsets_of

_BINS = 64  # lengths and counts in powers of two
_BEHAVIORS = 128
_ARRAYS = {"lengths": _BINS, "behaviors": _BEHAVIORS}


@dataclass
class SequenceStats:
    """What the sequences of one or more partitions look like."""

    users: int = 0
    events: int = 0
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    """Number of sequences with 2^k <= length < 2^(k+1)."""
    longest: int = 0
    behaviors: np.ndarray = field(default_factory=lambda: np.zeros(_BEHAVIORS, np.int64))
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

    def to_json(self) -> dict[str, Any]:
        """As plain values; `from_json` takes them."""
        record = dict(vars(self))
        for name in _ARRAYS:
            record[name] = np.trim_zeros(record[name], "b").tolist()
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SequenceStats:
        """The inverse of `to_json`."""
        stats = cls(**record)
        for name, empty in _ARRAYS.items():
            values = np.zeros(empty, np.int64)
            values[: len(record[name])] = record[name]
            setattr(stats, name, values)
        return stats


def sequence_stats(sequences: pa.Table) -> SequenceStats:
    """Statistics of cut sequences (with train_end and valid_end)."""
    offsets = offsets_of(sequences)
    lengths = np.diff(offsets)
    if not len(lengths):
        return SequenceStats()
    entropies = approximate_entropy(offsets, codes_of(flat(sequences, "item"))[0])
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
        behaviors=_count_values(flat(sequences, "behavior").to_numpy(), np.zeros(_BEHAVIORS, np.int64)),
        first=first,
        last=last,
        entropy_sum=float(known.sum()),
        entropy_users=len(known),
        validated=int((train_end < valid_end).sum()),
        tested=int((valid_end < lengths).sum()),
    )


@compiled
def _count_values(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Add up how often each value occurs; numpy's own makes each of them 64 bits wide first."""
    for value in values:
        counts[value] += 1
    return counts


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
