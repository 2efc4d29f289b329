"""Samples of a step are divided among processes by number and length, never beyond the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.packing.balance import fill_packs
from models.data.loading.even import evened
from models.data.loading.steps import ByTokens, sample_cost


def loads(weights: np.ndarray, chosen: np.ndarray, parts: int) -> list[int]:
    return [int(weights[chosen == part].sum()) for part in range(parts)]


def ids(*weights: int) -> np.ndarray:
    return np.array(weights, np.int64)


def test_each_gets_long_and_short_samples() -> None:
    weights, filled = ids(8, 8, 4, 4, 4, 4), ids(0, 0, 1, 1, 1, 1)
    dealt = evened(weights, filled, 2, 16)
    assert [sorted(weights[dealt == part].tolist()) for part in range(2)] == [[4, 4, 8], [4, 4, 8]]


def test_what_would_be_too_much_is_swapped_for_less() -> None:
    # Heaviest first would give 5 + 3 and 4 + 3 + 3.
    weights, filled = ids(5, 4, 3, 3, 3, 9), ids(0, 0, 1, 1, 1, -1)
    dealt = evened(weights, filled, 2, 9)
    assert loads(weights, dealt, 2) == [9, 9]
    assert dealt[5] == -1


def test_where_only_the_given_division_fits_it_stays() -> None:
    # 5 + 3 and four 2s: heaviest first gives 5 + 2 + 2 and 3 + 2 + 2, and no swap brings these closer.
    weights, filled = ids(5, 3, 2, 2, 2, 2), ids(1, 1, 0, 0, 0, 0)
    assert evened(weights, filled, 2, 8) is filled


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(40, 150),
    st.integers(2, 5),
)
def test_the_same_samples_wait_and_no_part_has_too_much(lengths: list[int], budget: int, parts: int) -> None:
    weights = np.array(lengths, np.int64)
    filled = fill_packs(weights, budget, parts).astype(np.int64)
    dealt = evened(weights, filled, parts, budget)
    assert ((dealt < 0) == (filled < 0)).all()
    assert max(loads(weights, dealt, parts)) <= budget
    taken = int((filled >= 0).sum())
    assert len(set(dealt[dealt >= 0].tolist())) == min(parts, taken)


@pytest.mark.parametrize("replicas", [2, 8])
def test_full_batches_cost_attention_as_much_on_every_process(replicas: int) -> None:
    """In budgets that are filled to the last token, as those of a loader are."""
    random = np.random.default_rng(0)
    lengths = random.lognormal(3.5, 1.0, 4_000 * replicas).astype(np.int64).clip(1, 512)
    rule = ByTokens(32_768 * replicas, replicas, 1_000, sample_cost(None))
    filled = fill_packs(lengths, 32_768, replicas)
    ranks = rule.choose(lengths)
    assert loads(lengths, ranks, replicas) == loads(lengths, filled, replicas) == [32_768] * replicas
    squares, counts = np.array(loads(lengths**2, ranks, replicas)), np.bincount(ranks[ranks >= 0])
    assert squares.max() < 1.02 * squares.min()
    assert counts.max() <= 1.02 * counts.min()
    before = loads(lengths**2, filled, replicas)
    assert max(before) > 3 * min(before)
