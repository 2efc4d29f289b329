"""Bootstrap by user: resamples against the metrics of rows that are really repeated, and the known spread."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.actions.intervals import action_intervals, paired_actions, resampled_metrics
from models.evaluation.bootstrap import SEED
from tests.models.evaluation.actions import metrics_oracle as oracle
from tests.models.evaluation.actions.test_meter import rows


def test_a_resample_has_the_rows_of_its_users_as_often_as_they_are_drawn() -> None:
    user, logits, labels = rows(count=60)
    users = np.unique(user)
    found = resampled_metrics(user, logits, labels, 5)
    draws = np.random.default_rng(SEED).multinomial(len(users), np.full(len(users), 1 / len(users)), size=5)
    for resample, times in enumerate(draws):
        repeated = np.concatenate(
            [np.flatnonzero(user == each) for each, n in zip(users, times, strict=True) for _ in range(n)]
        )
        owner = np.concatenate(
            [
                np.full((user == each).sum(), 100 * each + copy)
                for each, n in zip(users, times, strict=True)
                for copy in range(n)
            ]
        )
        own = logits[repeated].tolist(), labels[repeated].tolist()
        expected = {
            "auc": oracle.auc(*own),
            "gauc": oracle.gauc(owner.tolist(), *own),
            "log_loss": oracle.log_loss(*own),
            "normalized_entropy": oracle.normalized_entropy(*own),
            "calibration": sum(map(oracle.probability, own[0])) / sum(own[1]),
        }
        assert {name: values[resample] for name, values in found.items()} == pytest.approx(expected)


def test_intervals_of_one_row_a_user_are_those_of_the_known_standard_error() -> None:
    """Hanley and McNeil (1982), of a score that does not know the label: AUC 1/2."""
    generator = np.random.default_rng(0)
    labels = (np.arange(2000) % 4 == 0).astype(np.float32)
    logits = generator.normal(size=2000).astype(np.float32)
    low, high = action_intervals(np.arange(2000), logits, labels, 1000)["auc"]
    positives, negatives = 500, 1500
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_users_with_many_alike_rows_count_once() -> None:
    """Ten copies of each user's row say nothing new: the interval stays as wide."""
    user, logits, labels = rows(count=200)
    user = np.arange(200)
    once = action_intervals(user, logits, labels, 200)
    ten = action_intervals(np.repeat(user, 10), np.repeat(logits, 10), np.repeat(labels, 10), 200)
    for name in ("auc", "log_loss"):
        assert ten[name] == pytest.approx(once[name])


def test_pairs() -> None:
    user, logits, labels = rows()
    same = paired_actions(user, logits, logits, labels, 20)
    assert same["auc"] == {"interval": [0.0, 0.0], "share_below_zero": 0.0}
    worse = paired_actions(user, -logits, logits, labels, 20)
    assert worse["auc"]["share_below_zero"] == 1.0


def test_metrics_that_no_resample_has_are_left_out() -> None:
    assert set(action_intervals(np.arange(3), np.zeros(3), np.ones(3), 4)) == {"log_loss", "calibration"}
