"""Ranks and metrics against the slow obvious way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import rank_targets, ranking_metrics

INF = float("inf")


def slow_rank(scores: list[float], target: int, excluded: set[int]) -> float:
    """Walk through the candidates, one by one."""
    if target < 0 or target in excluded:
        return INF
    rank = 1
    for item, score in enumerate(scores):
        if item != target and item not in excluded and not score < scores[target]:
            rank += 1
    return float(rank)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_ranks_against_a_loop(data: st.DataObject) -> None:
    users, items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    # Few different values, so that ties are common; a score may also not be a number.
    value = st.sampled_from([0.0, 0.5, 1.0, -INF, INF, math.nan])
    scores = [data.draw(st.lists(value, min_size=items, max_size=items)) for _ in range(users)]
    target = [data.draw(st.integers(-1, items - 1)) for _ in range(users)]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, users - 1), st.integers(0, items - 1)), max_size=12))
    excluded = [{item for user, item in pairs if user == row} for row in range(users)]
    expected = [slow_rank(*row) for row in zip(scores, target, excluded, strict=True)]
    columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    found = rank_targets(torch.tensor(scores), torch.tensor(target), (columns[:, 0], columns[:, 1]))
    assert found.tolist() == expected
    without = rank_targets(torch.tensor(scores), torch.tensor(target))
    assert without.tolist() == [slow_rank(row, t, set()) for row, t in zip(scores, target, strict=True)]


def test_ties_count_against_the_target() -> None:
    ranks = rank_targets(torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([1]))
    assert ranks.tolist() == [3.0]


def test_an_excluded_target_is_a_miss_though_its_rivals_go_too() -> None:
    excluded = torch.tensor([0, 0, 0]), torch.tensor([0, 1, 1])
    assert rank_targets(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([1]), excluded).tolist() == [INF]


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


@pytest.mark.parametrize("user", [None, np.array([], dtype=np.int64)])
def test_nobody_to_evaluate_gives_zeros(user: np.ndarray | None) -> None:
    assert set(ranking_metrics(np.array([]), [10], user).values()) == {0.0}
