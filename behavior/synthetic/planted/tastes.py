"""Ratings: who likes an item is told by their ratings of others of its kind, and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from behavior.synthetic.planted.log import Floats, Ints, PlantedLog, events_of, item_names

HIGH, LOW = 5, 1


@dataclass(frozen=True)
class PlantedRatings:
    """Events with a value, `HIGH` or `LOW`, and what can be known of that of each user's last event."""

    log: PlantedLog
    """The events; its chances, of which item comes, are empty."""
    chance: Floats
    """[users] probability that the last event's value is high, given the process, its item and all before."""
    high: Ints
    """[users] whether it is, 0 or 1."""

    def best_auc(self) -> float:
        """Expected AUC over users of the best ranker, which orders them by `chance`.

        The expected number of pairs that are ordered rightly, ties by halves, over that of all pairs of a
        high and a low value.
        """
        chance, counts = np.unique(self.chance, return_counts=True)
        high, low = counts * chance, counts * (1.0 - chance)
        right = (high * (np.cumsum(low) - 0.5 * low)).sum()
        # A user is no pair with itself: equal chances were counted with it.
        alone = (counts * chance * (1.0 - chance)).sum()
        return float((right - 0.5 * alone) / (high.sum() * low.sum() - alone))

    def write(self, folder: str | Path) -> Path:
        """See `PlantedLog.write`."""
        return self.log.write(folder)


def tastes(
    seed: int = 0,
    *,
    users: int = 1000,
    kinds: int = 4,
    items_of_kind: int = 4,
    length: int = 20,
    sure: float = 0.9,
) -> PlantedRatings:
    """Each user likes or dislikes each kind of items, by a fair coin; events are of any item, evenly.

    An item of a kind that is liked has a high value with probability `sure`, another with `1 - sure`. With h
    high and l low values of the item's kind before, the odds that the kind is liked are
    `(sure / (1 - sure))^(h - l)`. Neither a user's mean nor an item's says anything.

    Args:
        seed: of everything random.
        users: number of users.
        kinds: of items; an item's id does not tell its kind.
        items_of_kind: items of each.
        length: events of each user.
        sure: how often a value is what the taste says.
    """
    rng = np.random.default_rng([seed, 6])
    kind_of = rng.permutation(np.repeat(np.arange(kinds), items_of_kind))
    liked = rng.random((users, kinds)) < 0.5
    item = rng.integers(len(kind_of), size=(users, length))
    kind = kind_of[item]
    high = rng.random((users, length)) < np.where(liked[np.arange(users)[:, None], kind], sure, 1.0 - sure)
    same = kind[:, :-1] == kind[:, -1:]
    lead = (same & high[:, :-1]).sum(1) - (same & ~high[:, :-1]).sum(1)
    likes = 1.0 / (1.0 + ((1.0 - sure) / sure) ** lead)
    values = np.where(high, HIGH, LOW)
    events = events_of(item_names(len(kind_of))[item])
    events = events.append_column("value", [values.ravel()])
    log = PlantedLog("tastes", events, item[:, -1], np.zeros((users, 0)))
    return PlantedRatings(log, likes * sure + (1.0 - likes) * (1.0 - sure), high[:, -1].astype(np.int64))
