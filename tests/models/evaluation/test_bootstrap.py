"""Intervals against another library, the normal approximation and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from models.evaluation import bootstrap
from models.evaluation.bootstrap import intervals, paired_difference, resampled_means
from models.evaluation.metrics import UserMetrics


def of(values: np.ndarray) -> UserMetrics:
    names = tuple(f"ndcg@{number}" for number in range(values.shape[1]))
    return UserMetrics(names, values, np.arange(len(values)))


def test_intervals_against_scipy() -> None:
    generator = np.random.default_rng(0)
    values = generator.exponential(size=(40, 2)) * (generator.random((40, 2)) < 0.5)
    found = intervals(of(values), 20_000)
    for column, name in enumerate(found):
        expected = stats.bootstrap(
            (values[:, column],), np.mean, n_resamples=20_000, method="percentile", rng=1
        ).confidence_interval
        # Ends of 20,000 draws are off by about a hundredth of the interval's width.
        assert found[name] == pytest.approx(list(expected), abs=0.03 * (expected.high - expected.low))


def test_intervals_of_many_users_are_those_of_the_normal_distribution() -> None:
    ranks = np.random.default_rng(0).integers(1, 60, 100_000)
    values = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
    low, high = intervals(of(values[:, None]), 4000)["ndcg@0"]
    width = 1.96 * values.std() / math.sqrt(len(values))
    assert [low, high] == pytest.approx([values.mean() - width, values.mean() + width], abs=0.1 * width)


def test_draws_of_two_users_come_as_often_as_they_should() -> None:
    means = resampled_means(np.array([[0.0], [1.0]]), 20_000)[:, 0]
    assert set(means.tolist()) == {0.0, 0.5, 1.0}
    assert (means == 0.5).mean() == pytest.approx(1 / 2, abs=0.02)
    assert (means == 1.0).mean() == pytest.approx(1 / 4, abs=0.02)


def test_metrics_of_a_user_are_drawn_together() -> None:
    values = np.random.default_rng(0).random((30, 1)) * np.array([[1.0, 2.0]])
    means = resampled_means(values, 50)
    assert means[:, 1] == pytest.approx(2 * means[:, 0])


def test_draws_are_the_same_every_time_and_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((30, 2))
    means = resampled_means(values, 50)
    assert np.array_equal(means, resampled_means(values, 50))
    assert not np.array_equal(means, resampled_means(values, 50, seed=1))
    monkeypatch.setattr(bootstrap, "_CELLS", 200)  # six draws at a time
    assert resampled_means(values, 50) == pytest.approx(means, rel=1e-12)


def test_nobody_has_no_interval() -> None:
    assert intervals(of(np.empty((0, 2))), 100) == {}


def test_a_difference_is_judged_by_pairs() -> None:
    """Users differ far more than the rankers do: only together they tell which is better."""
    generator = np.random.default_rng(0)
    theirs = generator.random((500, 1))
    ours = theirs + generator.normal(0.01, 0.02, (500, 1))
    low, high = intervals(of(ours), 2000)["ndcg@0"]
    assert low < theirs.mean() < high
    found = paired_difference(of(ours), of(theirs), 2000)["ndcg@0"]
    assert found["difference"] == pytest.approx((ours - theirs).mean())
    width = 1.96 * (ours - theirs).std() / math.sqrt(500)
    middle = (ours - theirs).mean()
    assert found["interval"] == pytest.approx([middle - width, middle + width], abs=0.15 * width)
    assert found["share_below_zero"] == 0.0
    assert paired_difference(of(theirs), of(ours), 2000)["ndcg@0"]["share_below_zero"] == 1.0


def test_the_share_below_zero_is_that_of_the_draws() -> None:
    """Three users, differences -1, 0 and 1: the mean is below zero in 10 of the 27 draws."""
    ours, theirs = np.array([[0.0], [1.0], [2.0]]), np.ones((3, 1))
    found = paired_difference(of(ours), of(theirs), 20_000)["ndcg@0"]
    assert found["share_below_zero"] == pytest.approx(10 / 27, abs=0.02)


def test_only_the_same_users_are_compared() -> None:
    one, two = of(np.ones((3, 1))), of(np.ones((4, 1)))
    with pytest.raises(ValueError, match="same users"):
        paired_difference(one, two, 10)
    with pytest.raises(ValueError, match="same users"):
        paired_difference(of(np.empty((0, 1))), of(np.empty((0, 1))), 10)
