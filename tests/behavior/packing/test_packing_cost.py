from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.pack import Cost, NextFit, fill_packs, pack_in_order, pack_lengths, pack_sequences
from tests.behavior.logs import many
from tests.behavior.packing.slow_packing import best_fit_by_hand, next_fit_by_hand

FACTORS = st.sampled_from([0.0, 1.0, 3.0, 0.5, 0.1, 1 / 3, 1e-9, 7.3e8])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], float, Cost]:
    linear, quadratic = draw(FACTORS), draw(FACTORS)
    assume(linear or quadratic)
    cost = Cost(linear, quadratic)
    longest = draw(st.integers(1, 300))
    budget = draw(st.sampled_from([1.0, 1.7, 12.0])) * float(cost.of([longest])[0])
    return draw(st.lists(st.integers(0, longest), max_size=40)), budget, cost


@many
@given(problems())
def test_no_pack_costs_more_than_the_budget(problem: tuple[list[int], float, Cost]) -> None:
    lengths, budget, cost = problem
    whole = [Fraction(cost.linear) * n + Fraction(cost.quadratic) * n * n for n in lengths]
    for pack in (pack_lengths, pack_in_order):
        packs = pack(np.array(lengths, np.int64), budget, cost)
        used = np.bincount(packs, weights=cost.of(lengths)) if lengths else np.zeros(0)
        assert (used <= budget).all()
        # To the last bit: a sequence alone in its pack was compared as a float.
        for number in range(len(used)):
            own = [whole[item] for item in np.flatnonzero(packs == number)]
            assert sum(own) <= Fraction(budget) or len([one for one in own if one]) == 1


@many
@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 9), st.integers(0, 9), st.integers(1, 8))
def test_whole_costs_are_packed_exactly(lengths: list[int], linear: int, quadratic: int, packs: int) -> None:
    assume(linear or quadratic)
    costs = [linear * n + quadratic * n * n for n in lengths]
    budget = max(costs, default=0) * packs // 2 + max(costs, default=1) + 1
    for unit in (1, 4):  # quarters are as exact as whole numbers
        cost = Cost(linear / unit, quadratic / unit)
        assert pack_lengths(lengths, budget / unit, cost).tolist() == best_fit_by_hand(costs, budget)
        assert pack_in_order(lengths, budget / unit, cost).tolist() == next_fit_by_hand(costs, budget)


@many
@given(problems(), st.integers(0, 40))
def test_a_stream_of_costs_is_packed_as_a_whole(problem: tuple[list[int], float, Cost], cut: int) -> None:
    lengths, budget, cost = problem
    stream = NextFit(budget, cost)
    packs = [*stream.add(lengths[:cut]), *stream.add(lengths[cut:])]
    np.testing.assert_array_equal(packs, pack_in_order(lengths, budget, cost))


def test_what_rounding_costs() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 20_000)
    cost = Cost(0.1, 1 / 3)
    weights, capacity = cost.weights(lengths, 50_000)
    shares = cost.of(lengths) / 50_000
    assert ((weights - shares * 2**31 >= 0) & (weights - shares * 2**31 < 1)).all()
    assert capacity == 2**31 - 1


def test_the_longest_sequence() -> None:
    assert Cost().longest(10) == 10
    assert Cost().longest(2**40) == 2**31 - 1
    assert Cost(1, 1).longest(12) == 3
    assert Cost(1, 1).longest(11.99) == 2
    assert Cost(5).longest(4) == 0
    assert Cost(0.1).longest(0.3) == 2  # 0.1 * 3 is above 0.3, in floats


def test_equally_heavy_packs() -> None:
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(4.5, 1.0, 20_000), 1, 1024).astype(np.int64)
    cost = Cost(256, 1)
    by_tokens = pack_sequences(lengths, 8192).costs_by(cost)
    by_cost = pack_sequences(lengths, by_tokens.mean(), cost)
    assert by_tokens.max() / by_tokens.mean() > 1.5
    assert by_cost.costs.max() / by_cost.costs.mean() < 1.01
    assert by_cost.fill > 0.99


def test_a_pool_is_packed_by_cost() -> None:
    cost = Cost(1, 1)
    weights, capacity = cost.weights([3, 1, 2, 3], 14)
    assert (weights.tolist(), capacity) == ([12, 2, 6, 12], 14)
    assert fill_packs(weights, capacity, 2).tolist() == [0, 0, 1, -1]


def test_errors() -> None:
    for factors in ((-1, 1), (0, 0), (float("nan"), 1), (1, float("inf"))):
        with pytest.raises(UserError, match="is no cost"):
            Cost(*factors)
    with pytest.raises(UserError, match=r"sequence 1 has 4 tokens, a pack holds 0 to 3 \(of 1 n \+ 1 n\^2"):
        pack_lengths([1, 4], 12, Cost(1, 1))
    with pytest.raises(UserError, match="can hold nothing"):
        pack_lengths([1, 4], 0, Cost(1, 1))
