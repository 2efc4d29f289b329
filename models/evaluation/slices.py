"""Slices of the targets: by behavior, domain, popularity, length of the history, and repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from behavior.shards.folder import ShardFolder
from behavior.shards.row_groups import RowGroupReader
from models.data.sequences import Int64Array
from models.evaluation.rankings import Rankings

HISTORY_BOUNDS = (10, 50, 200, 1000)
POPULARITY = ("head", "middle", "tail", "untrained", "unknown")


@dataclass(frozen=True)
class Slices:
    """Which targets belong to which slices; one may be in several, where its item has several values."""

    target: Int64Array  # [pairs] number of the target
    label: Int64Array  # [pairs] slice it is in; no pair twice
    names: Sequence[str]  # [slices]

    def parts(self) -> list[tuple[str, Int64Array]]:
        """Name and targets of every slice that has any, in order of labels."""
        order = np.argsort(self.label, kind="stable")
        label, target = self.label[order], self.target[order]
        bounds = [*np.flatnonzero(np.diff(label, prepend=-1)).tolist(), len(label)]
        return [(self.names[label[begin]], target[begin:end]) for begin, end in pairwise(bounds)]


def popularity_buckets(train_count: Int64Array) -> Int64Array:
    """The bucket of every item, as an index into `POPULARITY`, by its events in the training parts.

    Head, middle and tail have about a third of these events each. Items go by falling count; the share of all
    events that are of items with higher counts decides, so that items with equal counts share a bucket. Items
    without a training event are `untrained`.

    Args:
        train_count: [items].
    """
    counts, place, items = np.unique(-train_count, return_inverse=True, return_counts=True)
    events = -counts * items
    more_popular = np.cumsum(events) - events
    third = 3 * more_popular // max(1, int(events.sum()))
    return np.where(train_count > 0, third[place], POPULARITY.index("untrained"))


def of_items(values: Int64Array, rankings: Rankings, *, unknown: int) -> Int64Array:
    """[targets] what a table of known items has for the target's item; `unknown` for an unknown item."""
    rank = rankings.item.astype(np.int64) - rankings.about.first_item
    return np.where(rank >= 0, values[np.maximum(rank, 0)], unknown)


def _one_each(label: np.ndarray, names: Sequence[str]) -> Slices:
    return Slices(np.arange(len(label)), label.astype(np.int64), names)


def _by_behavior(rankings: Rankings, shards: ShardFolder) -> Slices:
    return _one_each(rankings.behavior, ["", *shards.manifest.behaviors])


def _by_domain(rankings: Rankings, shards: ShardFolder) -> Slices:
    """By the domain of the target event, which stands in the sequence files."""
    reader = RowGroupReader(shards)
    label = np.zeros(len(rankings.user), np.int64)
    order = np.argsort(rankings.user, kind="stable")
    user = rankings.user[order]
    for group in reader.groups:
        begin, end = np.searchsorted(user, [group.first_row, group.first_row + group.rows])
        chosen = order[begin:end]
        if len(chosen):
            domains = reader.read(group, ["domain"]).column("domain").chunk(0)
            starts = domains.offsets.to_numpy()[rankings.user[chosen] - group.first_row]
            label[chosen] = domains.values.to_numpy()[starts + rankings.position[chosen]]
    return _one_each(label, ["", *shards.manifest.domains])


def _by_popularity(rankings: Rankings, shards: ShardFolder) -> Slices:
    buckets = popularity_buckets(shards.items()["train_count"].to_numpy().astype(np.int64))
    return _one_each(of_items(buckets, rankings, unknown=POPULARITY.index("unknown")), POPULARITY)


def _by_history(rankings: Rankings, shards: ShardFolder) -> Slices:
    bounds = [1, *HISTORY_BOUNDS]
    names = [f"{first}-{stop - 1}" for first, stop in pairwise(bounds)] + [f"{bounds[-1]}+"]
    return _one_each(np.digitize(rankings.history, HISTORY_BOUNDS), names)


def _by_repeat(rankings: Rankings, shards: ShardFolder) -> Slices:
    """Repeat targets, these again by the behavior of the item's latest event before, and explore targets."""
    behaviors = shards.manifest.behaviors
    names = ["repeat", *(f"repeat: {name}" for name in behaviors), "explore"]
    earlier = rankings.earlier.astype(np.int64)
    repeats = np.flatnonzero(earlier)
    target, label = np.arange(len(earlier)), np.where(earlier > 0, 0, len(names) - 1)
    if len(behaviors) > 1:
        target, label = np.append(target, repeats), np.append(label, earlier[repeats])
    return Slices(target, label, names)


ATTRIBUTES: dict[str, Callable[[Rankings, ShardFolder], Slices]] = {
    "behavior": _by_behavior,
    "domain": _by_domain,
    "popularity": _by_popularity,
    "history": _by_history,
    "repeat": _by_repeat,
}
"""What every data set can be sliced by, but for those of one domain."""
