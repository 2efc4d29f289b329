"""Metrics of ranks, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.evaluation.metrics import ranking_metrics, user_metrics

INF = float("inf")


def test_metrics_worked_out_by_hand() -> None:
    metrics = ranking_metrics(np.array([1.0, 3.0, 10.0, 11.0, INF]), [10, 50])
    assert metrics["hr@10"] == pytest.approx(3 / 5)
    assert metrics["hr@50"] == pytest.approx(4 / 5)
    assert metrics["mrr@10"] == pytest.approx((1 + 1 / 3 + 1 / 10) / 5)
    assert metrics["mrr@50"] == pytest.approx((1 + 1 / 3 + 1 / 10 + 1 / 11) / 5)
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(11)) / 5)
    assert metrics["ndcg@50"] == pytest.approx((1 + 1 / 2 + 1 / math.log2(11) + 1 / math.log2(12)) / 5)


def test_users_count_alike_however_many_targets_they_have() -> None:
    ranks, user = np.array([1.0, 3.0, 4.0, INF, 11.0]), np.array([7, 2, 7, 7, 7])
    metrics = ranking_metrics(ranks, [10], user)
    assert metrics["hr@10"] == pytest.approx((2 / 4 + 1) / 2)
    assert metrics["mrr@10"] == pytest.approx(((1 + 1 / 4) / 4 + 1 / 3) / 2)
    assert metrics["ndcg@10"] == pytest.approx(((1 + 1 / math.log2(5)) / 4 + 1 / 2) / 2)


def test_one_target_a_user_changes_nothing() -> None:
    ranks = np.array([1.0, 3.0, 4.0, INF, 11.0])
    assert ranking_metrics(ranks, [10], np.arange(5)) == ranking_metrics(ranks, [10])


def test_every_user_has_a_row_in_order() -> None:
    ranks, user = np.array([1.0, 3.0, 4.0, INF, 2.0]), np.array([7, 2, 7, 7, 9])
    found = user_metrics(ranks, [3, 10], user)
    assert found.names == ("hr@3", "ndcg@3", "mrr@3", "hr@10", "ndcg@10", "mrr@10")
    assert found.user.tolist() == [2, 7, 9]
    assert found.values[:, 2].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 2])
    assert found.values[:, 3].tolist() == pytest.approx([1, 2 / 3, 1])
    assert found.values[:, 4].tolist() == pytest.approx([1 / 2, (1 + 1 / math.log2(5)) / 3, 1 / math.log2(3)])


@pytest.mark.parametrize("user", [None, np.array([], dtype=np.int64)])
def test_nobody_has_no_metrics(user: np.ndarray | None) -> None:
    assert ranking_metrics(np.array([]), [10], user) == {}
