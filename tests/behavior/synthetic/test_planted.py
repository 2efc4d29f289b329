"""Planted logs: chances against the process written out in plain Python, and against what happened."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import behavior
from behavior.errors import UserError
from behavior.synthetic.planted import PLANTED, PlantedLog

Row = dict[str, Any]
Chances = Callable[[list[Row], PlantedLog], Counter[str]]


def by_recency(history: list[Row], log: PlantedLog) -> Counter[str]:
    """.25 on any of 3,000 items; else the item of the j-th last event with odds .8^j."""
    odds = [0.8**age for age in range(len(history))]
    chances: Counter[str] = Counter({f"item-{number:04d}": 0.25 / 3000 for number in range(3000)})
    for age, event in enumerate(reversed(history)):
        chances[event["item"]] += 0.75 * odds[age] / sum(odds)
    return chances


def sure(item: str, candidates: list[str]) -> Counter[str]:
    chances: Counter[str] = Counter(dict.fromkeys(candidates, 0.05 / len(candidates)))
    chances[item] += 0.95
    return chances


def by_cart(history: list[Row], log: PlantedLog) -> Counter[str]:
    carted = [event["item"] for event in history if event["behavior"] == "cart"]
    return sure(carted[-1], [f"item-{number:04d}" for number in range(40)])


def by_feature(history: list[Row], log: PlantedLog) -> Counter[str]:
    """What usually follows a category, in the log, and the brand of the last item."""
    assert log.items is not None
    about = {row["item"]: row for row in log.items.to_pylist()}
    follows: Counter[tuple[str, str]] = Counter()
    events = log.events.to_pylist()
    for one, other in pairwise(events):
        if one["user"] == other["user"]:
            follows[about[one["item"]]["category"], about[other["item"]]["category"]] += 1
    last = about[history[-1]["item"]]
    following = max((n, b) for (a, b), n in follows.items() if a == last["category"])[1]
    wanted = following, last["brand"]
    (item,) = (row["item"] for row in about.values() if (row["category"], row["brand"]) == wanted)
    return sure(item, [*about])


def by_taste(history: list[Row], log: PlantedLog) -> Counter[str]:
    film = int(history[-1]["item"].removeprefix("film-"))
    return sure(f"item-{film // 3:04d}", [f"item-{number:04d}" for number in range(30)])


def by_cycle(history: list[Row], log: PlantedLog) -> Counter[str]:
    return sure(history[-520]["item"], [f"item-{number:04d}" for number in range(16)])


PROCESSES: dict[str, Chances] = {
    "repeats": by_recency,
    "funnel": by_cart,
    "features": by_feature,
    "domains": by_taste,
    "cycle": by_cycle,
}


def last_targets(log: PlantedLog) -> list[tuple[list[Row], Row]]:
    """History and target of each user: the last purchase."""
    users: dict[int, list[Row]] = {}
    for row in log.events.to_pylist():
        users.setdefault(row["user"], []).append(row)
    found = []
    for events in users.values():
        bought = [n for n, event in enumerate(events) if event.get("behavior", "buy") == "buy"]
        found.append((events[: bought[-1]], events[bought[-1]]))
    return found


@pytest.mark.parametrize("name", PLANTED)
def test_chances_are_those_of_the_process(name: str) -> None:
    log = PLANTED[name](seed=3)
    assert PLANTED[name](seed=3).events == log.events
    assert PLANTED[name](seed=4).events != log.events
    np.testing.assert_allclose(log.chance.sum(1), 1.0)
    for user, (history, event) in list(enumerate(last_targets(log)))[:20]:
        expected = PROCESSES[name](history, log)
        np.testing.assert_allclose(sorted(log.chance[user]), sorted(expected.values()), atol=1e-12)
        assert log.chance[user, log.target[user]] == pytest.approx(expected[event["item"]])


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("k", [1, 10])
def test_the_best_ranker_finds_as_many_as_it_expects(name: str, k: int) -> None:
    logs = [PLANTED[name](seed=seed) for seed in range(3)]
    hits, users = 0.0, 0
    for log in logs:
        own = log.chance[np.arange(len(log.target)), log.target]
        # Items that are equally likely share the places that they have.
        before = (log.chance > own[:, None] + 1e-12).sum(1)
        alike = (np.abs(log.chance - own[:, None]) <= 1e-12).sum(1)
        hits += float(np.clip((k - before) / alike, 0.0, 1.0).sum())
        users += len(own)
    best = float(np.mean([log.best_hr(k) for log in logs]))
    assert abs(hits / users - best) < 4 * math.sqrt(best * (1 - best) / users)


@pytest.mark.parametrize("name", PLANTED)
def test_a_log_is_prepared_by_its_own_spec(tmp_path: Path, name: str) -> None:
    log = PLANTED[name](seed=0)
    shards = behavior.prepare(log.write(tmp_path / "raw"), tmp_path / "shards")
    manifest = shards.manifest
    assert manifest.counts.accepted == log.events.num_rows == manifest.counts.read
    assert manifest.counts.users == len(log.target)
    assert [entry.name for entry in manifest.item_features] == (
        ["category", "brand"] if name == "features" else []
    )
    assert manifest.domains == (["films", "shop"] if name == "domains" else [])
    with pytest.raises(UserError, match="is not empty"):
        log.write(tmp_path / "raw")
