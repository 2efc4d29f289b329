"""The measures of a data set: against plain Python, over shards, and with intervals that hold."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.quality import DataQuality, Popularity, QualitySums, measure_quality, quality_of_arrays
from behavior.quality.histories import HistoryPart
from behavior.quality.measure import iter_user_quality
from behavior.quality.result import MEASURES
from tests.behavior.quality import oracle
from tests.behavior.quality.shop import make_log, prepared, training_histories

LOG = make_log()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return prepared(tmp_path_factory.mktemp("quality") / "shop", LOG)


def by_hand(histories: list[list[str]]) -> dict[str, float]:
    """All measures from their definitions."""
    numbers = {item: n for n, item in enumerate(sorted({item for own in histories for item in own}))}
    coded = [[numbers[item] for item in own] for own in histories]
    events = sum(map(len, coded))
    counts = sorted(Counter(item for own in coded for item in own).values(), reverse=True)

    def mean(values: list[float], weights: list[int]) -> float:
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)

    three, two = ([own for own in coded if len(own) >= least] for least in (3, 2))
    approximate = [oracle.approximate(own) for own in three]
    shannon = [oracle.shannon(own) for own in coded if own]
    information = sum(len(own) * math.log(len(own)) for own in two)
    new = sum(oracle.new_length(own, event) for own in two for event in range(len(own)))
    top = max(1.0, 0.01 * len(counts))
    return {
        "repeat_share": sum(map(oracle.repeats, coded)) / events,
        "approximate_entropy": mean(approximate, [1] * len(three)),
        "approximate_entropy_by_events": mean(approximate, list(map(len, three))),
        "lempel_ziv_entropy": mean([oracle.lempel_ziv(own) for own in two], [1] * len(two)),
        "lempel_ziv_entropy_by_events": information / new,
        "length_bound": mean([math.log(len(own)) for own in two], [1] * len(two)),
        "user_entropy": mean(shannon, [1] * len(shannon)),
        "user_entropy_by_events": mean(shannon, [len(own) for own in coded if own]),
        "item_entropy": oracle.shannon([item for own in coded for item in own]),
        "gini": oracle.gini(counts),
        "top_share": (sum(counts[: int(top)]) + (top % 1) * counts[int(top)]) / events,
    }


def test_every_measure_against_plain_python(shards: Path) -> None:
    histories = training_histories(make_log(500))
    small = prepared(shards.parent.parent / "small", make_log(500))
    found = measure_quality(small, replicates=0)
    expected = by_hand(histories)
    assert set(expected) == set(found.estimates) == set(MEASURES)
    for name, estimate in found.estimates.items():
        assert estimate.value == pytest.approx(expected[name], abs=1e-6), name
        assert estimate.low is estimate.high is None
    assert found.events == sum(map(len, histories))
    assert found.users == sum(1 for own in histories if own)
    assert found.longest == max(map(len, histories))
    assert found.items == len({item for own in histories for item in own})
    assert found.effective_events() == pytest.approx(found.events / expected["lempel_ziv_entropy"])
    middle = sorted(oracle.shannon([hash(item) for item in own]) for own in histories if own)
    place = math.ceil(0.5 * len(middle)) - 1
    assert 0 <= middle[place] - found.quantiles["shannon_entropy"]["0.5"] < 1 / 64


def test_threads_and_row_groups_change_nothing(shards: Path) -> None:
    one = measure_quality(shards, "all", replicates=20, threads=1)
    assert measure_quality(shards, "all", replicates=20, threads=3).to_record() == one.to_record()
    assert DataQuality.from_record(json.loads(json.dumps(one.to_record()))) == one
    other = measure_quality(shards, "all", replicates=20, seed=1)
    assert other.estimates["gini"].value == one.estimates["gini"].value
    assert other.estimates["gini"].low != one.estimates["gini"].low


def test_sums_merge_in_any_order_to_the_same() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 40, 30)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    item = draw.integers(0, 30, offsets[-1]).astype(np.int32)
    popularity = Popularity.of(item, 30)

    def part(begin: int, end: int) -> QualitySums:
        own = item[offsets[begin] : offsets[end]]
        sums = QualitySums(10)
        sums.add(HistoryPart(begin, offsets[begin : end + 1] - offsets[begin], own, unknown=1), popularity)
        return sums

    whole, parts = part(0, 30), [part(0, 7), part(7, 8), part(8, 30)]
    for order in ([0, 1, 2], [2, 0, 1]):
        merged = QualitySums(10)
        for number in order:
            merged = merged.merge(parts[number])
        np.testing.assert_array_equal(merged.sums, whole.sums)
        np.testing.assert_array_equal(merged.histograms, whole.histograms)
        assert (merged.unknown, merged.longest) == (3, whole.longest)
    with pytest.raises(ValueError, match="different bootstraps"):
        whole.merge(QualitySums(11))


def test_weights_of_the_bootstrap_are_those_of_a_poisson_variable() -> None:
    users, replicates = 2000, 200
    sums = QualitySums(replicates)
    sums.add(HistoryPart(0, np.arange(users + 1), np.zeros(users, np.int32)), Popularity(np.array([users])))
    events = sums.column("events")
    assert events[0] == users
    # A sum of Poisson variables of mean 1: mean and variance are the number of users.
    assert events[1:].mean() == pytest.approx(users, abs=5 * math.sqrt(users / replicates))
    assert events[1:].var() == pytest.approx(users, rel=0.5)
    none = HistoryPart(0, np.array([0, 1]), np.zeros(1, np.int32))
    weights = QualitySums(20_000)
    weights.add(none, Popularity(np.array([1])))
    shares = np.bincount(weights.column("events")[1:].astype(int))[:4] / 20_000
    np.testing.assert_allclose(shares, [math.exp(-1) / math.factorial(k) for k in range(4)], atol=0.015)


@pytest.mark.parametrize(
    "measure", ["repeat_share", "lempel_ziv_entropy", "item_entropy", "gini", "top_share"]
)
def test_intervals_hold_the_value_of_the_population_about_as_often_as_they_say(measure: str) -> None:
    items, users = 20, 150
    shares = np.arange(1, items + 1) / np.arange(1, items + 1).sum()

    def sample(number: int, users: int) -> DataQuality:
        draw = np.random.default_rng([7, number])
        lengths = draw.integers(5, 20, users)
        item = draw.choice(items, lengths.sum(), p=shares)
        return quality_of_arrays(np.concatenate([[0], np.cumsum(lengths)]), item, replicates=100, level=0.9)

    truth = sample(0, 30_000).value(measure)
    hits = 0
    for number in range(1, 41):
        estimate = sample(number, users).estimates[measure]
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= truth <= estimate.high
    assert hits >= 29  # of 40, with 36 expected: fewer have a chance of one in a thousand


def test_popularity_of_even_and_uneven_items() -> None:
    even = Popularity(np.array([5, 5, 0, 5, 5]))
    assert even.items == 4
    assert (even.counts * even.surprisal).sum() / 20 == pytest.approx(math.log(4))
    assert (even.counts * even.rank).sum() == pytest.approx(0)
    assert (even.counts * even.top).sum() / 20 == pytest.approx(1 / 4)
    for counts in ([1, 2, 3, 4], [7, 7, 1, 1, 900, 3], list(range(1, 251))):
        popularity = Popularity(np.array(counts))
        found = (popularity.counts * popularity.rank).sum() / sum(counts)
        assert found == pytest.approx(oracle.gini(counts))
        top = max(1.0, len(counts) / 100)
        assert popularity.top.sum() == pytest.approx(top)


def test_what_lengths_alone_would_tell_is_said(tmp_path: Path) -> None:
    log = [(f"u{user}", f"i{(user + n) % 40}", 1000 + n) for n in range(12) for user in range(40)]
    found = measure_quality(prepared(tmp_path / "shop", log), "all")
    assert found.value("repeat_share") == 0
    assert (
        found.value("lempel_ziv_entropy")
        == pytest.approx(found.value("length_bound"))
        == pytest.approx(math.log(12))
    )
    assert "no user has an item twice" in found.notes[0]
    assert math.isnan(found.effective_events("approximate_entropy"))
    few = quality_of_arrays(np.array([0, 200]), np.array([*range(199), 0]))
    assert "only 0.50% of the events" in few.notes[0]
    short = quality_of_arrays(np.array([0, 4, 8]), np.array([0, 1, 2, 0, 3, 4, 3, 5]))
    assert short.value("approximate_entropy") == pytest.approx(math.log(2 / 3))
    assert "too short for the approximate entropy" in short.notes[0]


def test_parts_and_users_of_a_data_set(shards: Path) -> None:
    train, valid, everything = (
        measure_quality(shards, part, replicates=0) for part in ("train", "valid", "all")
    )
    assert train.events < valid.events < everything.events == len(LOG)
    tables = list(iter_user_quality(shards))
    assert sum(sum(table.column("events").to_pylist()) for table in tables) == train.events
    assert [row for table in tables for row in table.column("row").to_pylist()] == list(
        range(sum(table.num_rows for table in tables))
    )
    assert any(table.column("approximate_entropy").null_count for table in tables)


def test_events_of_unknown_items_are_left_out_and_counted(tmp_path: Path) -> None:
    log = make_log(400)
    log += [(user, f"new {user}", 5000) for user in {user for user, _, _ in log}]
    folder = prepared(tmp_path / "shop", log, vocabulary={"fit_on": "train"})
    found = measure_quality(folder, "all", replicates=0)
    known = {item for own in training_histories(log) for item in own}
    unknown = sum(item not in known for _, item, _ in log)
    assert found.unknown_events == unknown > 0
    assert found.events == len(log) - unknown
    assert f"{unknown} events of unknown items were left out" in found.notes


def test_what_cannot_be_measured_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        measure_quality(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="offsets do not go"):
        quality_of_arrays(np.array([0, 3]), np.zeros(4, int))
    with pytest.raises(ValueError, match="there is an item -1"):
        quality_of_arrays(np.array([0, 1]), np.array([-1]))
