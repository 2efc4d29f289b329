"""The top items of queries against Python's own sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from models.evaluation.scores import ProductScores, RowScores
from models.serving.recommend.top import NONE, top_items


def by_hand(
    row: list[float], k: int, left_out: set[int], allowed: list[bool]
) -> tuple[list[int], list[float]]:
    items = [item for item in range(len(row)) if allowed[item] and item not in left_out]
    items = sorted(items, key=lambda item: (-row[item], item))[:k]
    missing = k - len(items)
    return items + [NONE] * missing, [row[item] for item in items] + [float("-inf")] * missing


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 23),
    st.integers(1, 25),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_is_a_stable_sort(rows: int, items: int, k: int, cells: int, random) -> None:  # type: ignore[no-untyped-def]
    """Few values, so that many tie; whatever the ranges of items."""
    scores = [[float(random.choice((-1, 0, 0, 1, 2))) for _ in range(items)] for _ in range(rows)]
    pairs = [(random.randrange(rows), random.randrange(items)) for _ in range(random.randrange(8))]
    allowed = [random.random() < 0.8 for _ in range(items)]
    excluded = tuple(np.array([pair[place] for pair in pairs], np.int64) for place in (0, 1))
    item, score = top_items(
        RowScores(torch.tensor(scores)),
        rows,
        items,
        k,
        excluded=excluded,  # type: ignore[arg-type]
        allowed=np.array(allowed),
        cells=cells,
    )
    for row in range(rows):
        left_out = {column for number, column in pairs if number == row}
        expected = by_hand(scores[row], k, left_out, allowed)
        assert (item[row].tolist(), score[row].tolist()) == expected


def test_equal_vectors_tie_across_ranges() -> None:
    query, vector = torch.randn(3, 7), torch.randn(1, 7)
    scores = ProductScores(query, vector.expand(101, 7).contiguous())
    item, _ = top_items(scores, 3, 101, 9, cells=60)
    assert item.tolist() == [list(range(9))] * 3


def test_what_is_no_number_is_an_error() -> None:
    rows = torch.zeros(2, 5)
    rows[1, 3] = float("nan")
    with pytest.raises(UserError, match="not numbers"):
        top_items(RowScores(rows), 2, 5, 2)
