"""Floors in plain Python, one user, one event and one item at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from tests.models.shards import User, World

FIRST = 2


def random_users(seed: int, users: int = 30, items: int = 9, behaviors: int = 3) -> list[User]:
    """Few items, so that much repeats and ties; unknown ones; no history, no targets, no training part."""
    random = np.random.default_rng(seed)
    found = []
    for length in random.integers(1, 14, users).tolist():
        ends = np.sort(random.integers(0, length + 1, 2)).tolist()
        item, behavior = random.integers(1, FIRST + items, length), random.integers(1, behaviors + 1, length)
        times = np.sort(random.integers(0, 5, length)).tolist()
        found.append(User(item.tolist(), *ends, behavior=behavior.tolist(), timestamp=times))
    return found


@dataclass(frozen=True, eq=False)
class Oracle:
    """Ranks by a floor, from its definition."""

    users: Sequence[User]
    world: World
    counts: str = "train"

    @property
    def items(self) -> range:
        return range(FIRST, FIRST + self.world.num_items)

    @cache  # noqa: B019
    def counted(self) -> list[list[int]]:
        """What is counted of each user."""
        return [
            list(user.item[: user.train_end if self.counts == "train" else user.valid_end])
            for user in self.users
        ]

    @cache  # noqa: B019
    def popularity(self, item: int) -> int:
        return sum(row.count(item) for row in self.counted())

    def is_target(self, behavior: int) -> bool:
        return self.world.behaviors[behavior - 1] in self.world.targets

    @cache  # noqa: B019
    def follows(self, window: int, backward: float, power: float) -> dict[tuple[int, int], float]:
        """(item, follower) -> what it counts."""
        found: dict[tuple[int, int], float] = {}
        for row in self.counted():
            for early in range(len(row)):
                for late in range(early + 1, min(early + window, len(row))):
                    if row[early] >= FIRST and row[late] >= FIRST:
                        for pair, weight in (
                            ((row[early], row[late]), 1.0),
                            ((row[late], row[early]), backward),
                        ):
                            found[pair] = found.get(pair, 0.0) + weight / (late - early)
        return {pair: value / max(1, self.popularity(pair[1])) ** power for pair, value in found.items()}

    def votes(
        self, name: str, user: User, stop: int, point: dict[str, float]
    ) -> dict[int, tuple[float, float]]:
        """(own vote, vote by others) of the items that have any."""
        history = list(zip(user.item[:stop], user.behavior[:stop], strict=True))
        own: dict[int, float] = {}
        others: dict[int, float] = {}
        bought = {item for item, behavior in history if self.is_target(behavior)}
        for age, (item, _) in enumerate(reversed(history)):
            place = len(history) - 1 - age
            if name == "recency":
                own.setdefault(item, place + 1)
            if name == "frequency":
                own[item] = own.get(item, 0.0) + point["decay"] ** age
            if name.startswith("open") and item not in bought:
                own.setdefault(item, place + 1)
            if name == "markov" and age == 0:
                for row in self.counted():
                    for last, following in pairwise(row):
                        if last == item:
                            others[following] = others.get(following, 0.0) + 1
            if name.endswith("cooccurrence") and age < point["window"]:
                follows = self.follows(int(point["window"]), point["backward"], point["popularity_power"])
                for (left, right), value in follows.items():
                    if left == item:
                        others[right] = others.get(right, 0.0) + point["decay"] ** age * value
        return {item: (own.get(item, 0.0), others.get(item, 0.0)) for item in {*own, *others}}

    def ranks(
        self, name: str, split: str, point: dict[str, float], *, exclude_seen: bool
    ) -> list[tuple[int, int, float]]:
        """(user, position, rank) of every target with a history."""
        kind: Any = self.world.split["kind"]
        found = []
        for number, user in enumerate(self.users):
            bounds = (
                (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
            )
            chosen = [place for place in range(*bounds) if self.is_target(user.behavior[place])]
            for place in chosen[:1] if kind == "leave_one_out" else chosen:
                stop = bounds[0] if kind == "next_basket" else place
                if stop:
                    rank = self._rank(name, user, stop, user.item[place], point, exclude_seen)
                    found.append((number, place, rank))
        return found

    def _rank(
        self, name: str, user: User, stop: int, target: int, point: dict[str, float], exclude_seen: bool
    ) -> float:
        seen = {
            item
            for item, behavior in zip(user.item[:stop], user.behavior[:stop], strict=True)
            if exclude_seen and self.is_target(behavior)
        }
        if target < FIRST or target in seen:
            return float("inf")
        votes = self.votes(name, user, stop, point)

        def key(item: int) -> tuple[float, float, int]:
            own, others = votes.get(item, (0.0, 0.0))
            # Own items stand before what others vote for, by their own votes alone.
            return own, 0.0 if own else round(others, 4), self.popularity(item)

        return 1 + sum(key(item) >= key(target) for item in self.items if item != target and item not in seen)
