"""Metrics of predictions against slow loops, however rows come."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.distributed.processes import SingleProcess
from models.evaluation.actions import calibration
from models.evaluation.actions.auc import AucCounter, auc_of, keys_of
from models.evaluation.actions.labels import Label, Side
from models.evaluation.actions.meter import Meter
from models.evaluation.actions.user_auc import user_auc
from tests.models.evaluation.actions import metrics_oracle as oracle

CLICK = Label("click", Side((1,)))
VALUE = Label("value", None)


def rows(seed: int = 0, count: int = 300, ties: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users in order, logits with many ties, labels that follow them; some users have one label only."""
    generator = np.random.default_rng(seed)
    user = np.sort(generator.integers(0, count // 5, count))
    logits = (generator.integers(-ties, ties, count) / 4).astype(np.float32)
    labels = (generator.random(count) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return user, logits, labels


@pytest.mark.parametrize("ties", [1, 3, 12, 200])
def test_auc_with_ties(ties: int) -> None:
    _, logits, labels = rows(ties=ties)
    assert auc_of(logits, labels) == oracle.auc(logits.tolist(), labels.tolist())


def test_auc_of_known_rows() -> None:
    assert auc_of(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == 0.75
    assert auc_of(np.array([-0.0, 0.0]), np.array([0, 1])) == 0.5
    assert auc_of(np.array([-np.inf, 3e38, np.inf]), np.array([0, 0, 1])) == 1.0
    assert auc_of(np.array([1.0, 2.0]), np.array([1, 1])) is None
    assert auc_of(np.zeros(0), np.zeros(0)) is None
    with pytest.raises(ValueError, match="NaN"):
        auc_of(np.array([np.nan]), np.array([1]))
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        auc_of(np.array([0.0]), np.array([0.5]))


def test_keys_are_in_the_order_of_scores() -> None:
    scores = np.array([-np.inf, -2.5, -1e-42, 0.0, 1e-42, 1.0, np.inf], np.float32)
    assert (np.diff(keys_of(scores).astype(np.int64)) > 0).all()


def test_auc_is_exact_whatever_memory_holds(tmp_path: Path) -> None:
    """Counts go to files and come back a range of scores after the other; not a bit differs."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=5000).astype(np.float32)
    labels = (generator.random(5000) < 0.3).astype(np.float32)
    counter = AucCounter(distinct=100, folder=tmp_path)
    for begin in range(0, 5000, 130):
        counter.add(logits[begin : begin + 130], labels[begin : begin + 130])
    assert len(list(tmp_path.iterdir())) > 30
    assert max(len(run.key) for run in counter.ordered()) < 1000
    assert counter.auc() == auc_of(logits, labels) == oracle.auc(logits.tolist(), labels.tolist())


class Rank(SingleProcess):
    """A process whose partner's contributions were recorded before."""

    def __init__(self, others: list) -> None:
        self.others = iter(others)

    def all_gather_object(self, value: object) -> list:
        return [value, next(self.others)]

    def sum(self, values: object) -> list:
        return [ours + theirs for ours, theirs in zip(values, next(self.others), strict=True)]  # type: ignore[call-overload]


class Recorder(SingleProcess):
    """Remembers what it is given for each collective operation."""

    def __init__(self) -> None:
        self.given: list = []

    def all_gather_object(self, value: object) -> list:
        self.given.append(value)
        return [value]

    def sum(self, values: object) -> list:
        self.given.append(list(values))  # type: ignore[call-overload]
        return list(values)  # type: ignore[call-overload]


def test_two_processes_find_what_one_does() -> None:
    user, logits, labels = rows()
    half = np.searchsorted(user, user[len(user) // 2])
    whole, ours, theirs = Meter(CLICK), Meter(CLICK), Meter(CLICK)
    whole.add(user, logits, labels)
    ours.add(user[:half], logits[:half], labels[:half])
    theirs.add(user[half:], logits[half:], labels[half:])
    recorder = Recorder()
    theirs.metrics(recorder)
    found, expected = ours.metrics(Rank(recorder.given)), whole.metrics()
    assert found == pytest.approx(expected, rel=1e-12)
    assert found["auc"] == expected["auc"]


@pytest.mark.parametrize("batch", [300, 37, 1])
def test_metrics_against_slow_loops(batch: int) -> None:
    user, logits, labels = rows()
    meter = Meter(CLICK)
    for begin in range(0, len(user), batch):
        part = slice(begin, begin + batch)
        meter.add(user[part], logits[part], labels[part])
    found = meter.metrics()
    lists = logits.tolist(), labels.tolist()
    aucs = oracle.user_aucs(user.tolist(), *lists)
    assert found == pytest.approx(
        {
            "rows": 300,
            "positives": int(labels.sum()),
            "auc": oracle.auc(*lists),
            "gauc": oracle.gauc(user.tolist(), *lists),
            "gauc_users": sum(area is not None for _, area in aucs.values()),
            "one_class_users": sum(area is None for _, area in aucs.values()),
            "log_loss": oracle.log_loss(*lists),
            "normalized_entropy": oracle.normalized_entropy(*lists),
            "calibration": sum(map(oracle.probability, lists[0])) / sum(lists[1]),
            "expected_calibration_error": oracle.calibration_error(*lists, calibration.BUCKETS),
        },
        rel=1e-9,
    )
    assert found["one_class_users"] > 0


def test_user_aucs() -> None:
    user, logits, labels = rows(1)
    shuffled = np.random.default_rng(0).permutation(len(user))
    found = user_auc(user[shuffled], logits[shuffled], labels[shuffled])
    expected = oracle.user_aucs(user.tolist(), logits.tolist(), labels.tolist())
    assert found.user.tolist() == sorted(expected)
    for number, each in enumerate(found.user.tolist()):
        count, area = expected[each]
        assert found.rows[number] == count
        assert found.auc[number] == pytest.approx(math.nan if area is None else area, nan_ok=True)


def test_a_user_who_comes_again_is_an_error() -> None:
    meter = Meter(CLICK)
    meter.add(np.array([1, 2, 3]), np.zeros(3), np.ones(3))
    meter.add(np.array([3, 4]), np.zeros(2), np.ones(2))
    meter.add(np.array([1]), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="follow each other"):
        meter.metrics()


def test_a_certain_mistake_costs_what_clipping_says() -> None:
    meter = Meter(CLICK)
    meter.add(np.array([0, 0]), np.array([200.0, 200.0]), np.array([0, 1]))
    assert meter.metrics()["log_loss"] == pytest.approx((-math.log(1e-7) - math.log(1 - 1e-7)) / 2)


def test_what_is_no_number_is_left_out() -> None:
    meter = Meter(CLICK)
    assert meter.metrics() == {"rows": 0}
    meter.add(np.array([0, 1]), np.array([1.0, 2.0]), np.array([np.nan, 0.0]))
    found = meter.metrics()
    assert found["rows"] == 1
    assert not {"auc", "gauc", "normalized_entropy", "calibration"} & set(found)


def test_numbers() -> None:
    meter = Meter(VALUE)
    meter.add(np.array([0, 0, 1]), np.array([1.0, 4.0, 3.0]), np.array([2.0, np.nan, 5.0]))
    assert meter.metrics() == pytest.approx({"rows": 2, "mean": 3.5, "rmse": math.sqrt(2.5), "mae": 1.5})


def test_the_roc_curve_has_the_area_of_the_auc() -> None:
    _, logits, labels = rows()
    counter = AucCounter()
    counter.add(logits, labels)
    curve = counter.roc(points=10_000)
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(counter.auc())
    assert len(counter.roc(points=5)) == 5
    one = AucCounter()
    one.add(logits[labels == 1], labels[labels == 1])
    assert len(one.roc()) == 0


def test_the_curve_of_many_scores_is_thinned() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=40_000).astype(np.float32)
    labels = (generator.random(40_000) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    counter = AucCounter()
    counter.add(logits, labels)
    curve = counter.roc(points=200)
    assert len(curve) == 200
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(counter.auc(), abs=1e-3)


def test_calibration_table() -> None:
    found = calibration.Calibration.of(np.array([0.0, 0.04, 0.5, 1.0]), np.array([0, 1, 1, 1]), 20)
    assert found.table() == [
        {"from": 0.0, "to": 0.05, "rows": 2, "predicted": 0.02, "observed": 0.5},
        {"from": 0.5, "to": 0.55, "rows": 1, "predicted": 0.5, "observed": 1.0},
        {"from": 0.95, "to": 1.0, "rows": 1, "predicted": 1.0, "observed": 1.0},
    ]
    assert found.expected_error() == pytest.approx(2 / 4 * 0.48 + 1 / 4 * 0.5)
    assert found.ratio() == pytest.approx(1.54 / 3)
    assert calibration.Calibration.of(np.array([0.5]), np.array([0])).ratio() is None
    assert (found + found).expected_error() == found.expected_error()
