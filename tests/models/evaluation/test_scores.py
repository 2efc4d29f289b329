"""Ranks counted by ranges of items, against walking through the candidates one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.scores import ProductScores, RowScores, Scores, SharedScores, item_ranges, rank_targets

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


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_ranks_against_a_loop(data: st.DataObject) -> None:
    users, items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    # Few different values, so that ties are common; a score may also not be a number.
    value = st.sampled_from([0.0, 0.5, 1.0, -INF, INF, math.nan])
    scores = [data.draw(st.lists(value, min_size=items, max_size=items)) for _ in range(users)]
    target = [data.draw(st.integers(-1, items - 1)) for _ in range(users)]
    pairs = data.draw(st.lists(st.tuples(st.integers(0, users - 1), st.integers(0, items - 1)), max_size=12))
    cells = data.draw(st.integers(1, 40))  # ranges of one item up to all of them
    excluded = [{item for user, item in pairs if user == row} for row in range(users)]
    expected = [slow_rank(*row) for row in zip(scores, target, excluded, strict=True)]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    rows = RowScores(torch.tensor(scores))
    found = rank_targets(rows, np.array(target), items, (columns[:, 0], columns[:, 1]), cells=cells)
    assert found.tolist() == expected
    without = rank_targets(rows, np.array(target), items, cells=cells)
    assert without.tolist() == [slow_rank(row, t, set()) for row, t in zip(scores, target, strict=True)]


def test_ties_count_against_the_target() -> None:
    ranks = rank_targets(RowScores(torch.tensor([[1.0, 1.0, 1.0, 0.0]])), np.array([1]), 4)
    assert ranks.tolist() == [3.0]


def test_an_excluded_target_is_a_miss_though_its_rivals_go_too() -> None:
    excluded = np.array([0, 0, 0]), np.array([0, 1, 1])
    scores = RowScores(torch.tensor([[3.0, 2.0, 1.0]]))
    assert rank_targets(scores, np.array([1]), 3, excluded).tolist() == [INF]


@pytest.mark.parametrize("width", [1, 7, 100, 300])
def test_products_by_ranges_rank_as_sorting_does(width: int) -> None:
    """Vectors of small whole numbers: products are exact, and many of them tie."""
    generator = np.random.default_rng(0)
    users, items = 20, 300
    query, vectors = (generator.integers(-2, 3, (size, 3)).astype(np.float32) for size in (users, items))
    target = generator.integers(0, items, users)
    scores = ProductScores(torch.from_numpy(query), torch.from_numpy(vectors))
    found = rank_targets(scores, target, items, cells=users * width)
    for row in range(users):
        product = query[row] @ vectors.T
        # Behind everything that ties: the last place of its score in falling order.
        last = np.searchsorted(np.sort(-product), -product[target[row]], side="right")
        assert found[row] == last


@pytest.mark.parametrize("cells", [1, 64, 10_000])
@pytest.mark.parametrize(("targets", "items"), [(1, 33), (3, 101), (3, 3706)])
def test_copies_of_an_item_tie_wherever_they_stand(targets: int, items: int, cells: int) -> None:
    """Also where products are rounded, and copies fall into other ranges or behind the last whole tile."""
    torch.manual_seed(0)
    vector = torch.randn(50)
    scores = ProductScores(torch.randn(targets, 50), vector.expand(items, -1).contiguous())
    target = np.linspace(0, items - 1, targets, dtype=np.int64)
    assert rank_targets(scores, target, items, cells=cells).tolist() == [float(items)] * targets


def test_targets_that_ask_the_same_have_the_scores_of_the_question() -> None:
    asked = RowScores(torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))
    shared = SharedScores(asked, torch.tensor([1, 0, 1]))
    assert rank_targets(shared, np.array([2, 2, 1]), 3, cells=3).tolist() == [1.0, 3.0, 2.0]


def test_no_more_scores_are_made_at_once_than_were_allowed() -> None:
    widths = []

    class Watched(RowScores):
        def columns(self, first: int, stop: int) -> torch.Tensor:
            widths.append(stop - first)
            return super().columns(first, stop)

    scores: Scores = Watched(torch.zeros(4, 1000))
    assert rank_targets(scores, np.array([0, 1, 999, -1]), 1000, cells=400).tolist() == [1000.0] * 3 + [INF]
    # Two of the ten ranges hold targets; the last one is used again at once.
    assert widths == [100] * 11
    widths.clear()
    rank_targets(scores, np.array([0, 1, 999, -1]), 1000, cells=4000)
    assert widths == [1000]


@settings(max_examples=100, deadline=None)
@given(items=st.integers(0, 60), most=st.integers(0, 70))
def test_ranges_cover_every_item_once_and_are_of_one_length(items: int, most: int) -> None:
    ranges = item_ranges(items, most)
    assert [item for _, stop, fresh in ranges for item in range(fresh, stop)] == list(range(items))
    assert all(0 <= first <= fresh < stop <= items for first, stop, fresh in ranges)
    lengths = {stop - first for first, stop, _ in ranges}
    assert len(lengths) <= 1
    assert max(lengths, default=0) <= max(1, most)
