"""Planted ratings: chances against the process in plain Python, and against what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import behavior
from behavior.synthetic.planted import PlantedRatings, tastes


@pytest.fixture(scope="module")
def log() -> PlantedRatings:
    return tastes(users=400)


def test_chances_follow_from_the_ratings_of_the_kind_by_bayes(log: PlantedRatings) -> None:
    """Of the ratings of items of the kind the posterior, coin by coin."""
    rng = np.random.default_rng([0, 6])
    kind_of = dict(
        zip([f"item-{n:04d}" for n in range(16)], rng.permutation(np.repeat(np.arange(4), 4)), strict=True)
    )
    events = log.log.events.to_pylist()
    for user in range(0, 400, 7):
        *before, last = events[20 * user : 20 * (user + 1)]
        likelihood = {True: 0.5, False: 0.5}
        for event in before:
            if kind_of[event["item"]] == kind_of[last["item"]]:
                for likes in likelihood:
                    likelihood[likes] *= 0.9 if (event["value"] == 5) == likes else 0.1
        share = likelihood[True] / sum(likelihood.values())
        assert log.chance[user] == pytest.approx(0.9 * share + 0.1 * (1 - share))
        assert log.high[user] == (last["value"] == 5)


def test_it_happens_as_often_as_chances_say(log: PlantedRatings) -> None:
    error = np.sqrt((log.chance * (1 - log.chance)).sum())
    assert abs((log.high - log.chance).sum()) < 3 * error


def test_the_best_auc_is_that_of_all_pairs() -> None:
    log = tastes(users=30)
    right = pairs = 0.0
    for one in range(30):
        for other in range(30):
            if one != other:
                weight = log.chance[one] * (1 - log.chance[other])
                pairs += weight
                right += weight * (0.5 + 0.5 * np.sign(np.round(log.chance[one] - log.chance[other], 12)))
    assert log.best_auc() == pytest.approx(right / pairs)


def test_neither_users_nor_items_say_anything_by_themselves(log: PlantedRatings) -> None:
    values = log.log.events.append_column("high", pc.equal(log.log.events["value"], 5).cast(pa.float64()))
    means = values.group_by("item").aggregate([("high", "mean")])["high_mean"].to_numpy()
    assert np.abs(means - 0.5).max() < 0.12


def test_it_can_be_prepared(log: PlantedRatings, tmp_path: Path) -> None:
    log.write(tmp_path / "raw")
    shards = behavior.prepare(tmp_path / "raw" / "spec.yaml", tmp_path / "shards")
    assert shards.manifest.counts.events == 400 * 20
    values = [
        value
        for table in shards.iter_sequences(["value"])
        for row in table["value"].to_pylist()
        for value in row
    ]
    assert sorted(set(values)) == [1.0, 5.0]
