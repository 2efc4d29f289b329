"""Events counted by time, behavior and domain, and repeats: what stats.json does not tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior.shards.damage import damaged
from behavior.shards.folder import ShardFolder, check_columns
from behavior.shards.names import STATS
from behavior.spec.dataset_spec import TICKS_PER_SECOND
from behavior.summary.repeats import Repeats, count_repeats

MAX_FILES = 16
"""Sequence files that are read for what stats.json does not tell; one at a time is in memory."""

_MAX_BINS = 100
_MAX_YEARS = 10_000
_UNITS = {
    "minute": 60,
    "10 minutes": 600,
    "hour": 3_600,
    "6 hours": 21_600,
    "day": 86_400,
    "week": 7 * 86_400,
    "30 days": 30 * 86_400,
    "90 days": 90 * 86_400,
    "year": 365 * 86_400,
}


@dataclass(frozen=True)
class EventSample:
    """Events counted by time, behavior and domain, and repeats, in some of the sequence files.

    Attributes:
        files, of: number of files that were read, and of all.
        edges: where bins of time begin, and the end of the last; empty without times. [bins + 1] int64
        width: name of a bin's length, such as day.
        over_time: events of each behavior in each bin. [behaviors, bins] int64
        domains: events of each domain. [domains] int64
        repeats: events and targets whose item their user had before.
    """

    files: int
    of: int
    edges: np.ndarray
    width: str
    over_time: np.ndarray
    domains: np.ndarray
    repeats: Repeats

    @property
    def note(self) -> str:
        """How titles say that not all was read; empty where it was."""
        return "" if self.files == self.of else f" (in {self.files:,} of {self.of:,} files)"


def sample_events(shards: ShardFolder, max_files: int = MAX_FILES) -> EventSample:
    """Count events in at most `max_files` sequence files, spread evenly over all of them.

    A user is in one file by hash, so that some of the files are a fair sample of users. One file at a time
    is in memory.

    Raises:
        UserError: one of them, or stats.json, is damaged.
    """
    manifest = shards.manifest
    entries = shards.sequence_files()
    chosen = np.unique(np.linspace(0, len(entries) - 1, min(max_files, len(entries))).round().astype(int))
    time = shards.stats()["time"]
    edges, width = np.zeros(0, np.int64), ""
    if time["unit"] != "none" and time["first"] is not None:
        per_second = TICKS_PER_SECOND[time["unit"]]
        if time["last"] - time["first"] > _MAX_YEARS * _UNITS["year"] * per_second:
            raise damaged("statistics", f"they span more than {_MAX_YEARS:,} years", shards.where(STATS))
        edges, width = time_bins(time["first"], time["last"], per_second)
    over_time = np.zeros((len(manifest.behaviors), max(len(edges) - 1, 0)), np.int64)
    domains = np.zeros(len(manifest.domains), np.int64)
    repeats = Repeats.none(len(manifest.behaviors))
    columns = ["behavior", *(["timestamp"] if len(edges) else []), *(["domain"] if len(domains) else [])]
    for place in chosen:
        # All columns: what is damaged is to be told, whoever looks.
        table = shards.read_sequences(entries[place]).combine_chunks()
        check_columns(
            table.column_names,
            [*columns, "item", "train_end", "valid_end"],
            shards.where(entries[place].path),
        )
        repeats += count_repeats(table, manifest)
        flat = {name: table.column(name).combine_chunks().flatten().to_numpy() for name in columns}
        if len(edges):
            times = flat["timestamp"]
            if len(times) and not edges[0] <= times.min() <= times.max() < edges[-1]:
                what = "they have times outside those of the statistics"
                raise damaged("sequences", what, shards.where(entries[place].path))
            bins = np.searchsorted(edges, flat["timestamp"], side="right") - 1
            cells = (flat["behavior"].astype(np.int64) - 1) * over_time.shape[1] + bins
            over_time += np.bincount(cells, minlength=over_time.size).reshape(over_time.shape)
        if len(domains):
            domains += np.bincount(flat["domain"], minlength=len(domains) + 1)[1:]
    return EventSample(len(chosen), len(entries), edges, width, over_time, domains, repeats)


def time_bins(first: int, last: int, per_second: int) -> tuple[np.ndarray, str]:
    """Bins of time of a length that people know, about a hundred at most (but for spans of a century).

    Args:
        first, last: in ticks since 1970.
        per_second: ticks of a second.

    Returns:
        Edges [bins + 1] int64, whole multiples of the length, and the length's name.
    """
    fitting = (name for name, unit in _UNITS.items() if (last - first) // (unit * per_second) < _MAX_BINS)
    name = next(fitting, "year")
    width = _UNITS[name] * per_second
    begin = first // width
    return np.arange(begin, last // width + 2, dtype=np.int64) * width, name
