from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.pack import fill_packs, spread
from tests.behavior.logs import many
from tests.behavior.packing.slow_packing import place_by_hand, spread_by_hand


def totals(chosen: np.ndarray, weights: list[int], parts: int) -> list[int]:
    sums = [0] * parts
    for part, weight in zip(chosen.tolist(), weights, strict=True):
        if part >= 0:
            sums[part] += weight
    return sums


# --- spread ---------------------------------------------------------------------------------------------


@many
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 9))
def test_spread_against_plain_python(costs: list[int], parts: int) -> None:
    chosen = spread(np.array(costs, np.int64), parts)
    assert chosen.dtype == np.int32
    assert chosen.tolist() == spread_by_hand(costs, parts)
    if len(costs) >= parts:
        assert len(set(chosen.tolist())) == parts
    for same in (np.array(costs, np.int32), pa.array(costs, pa.int64()), np.array(costs, np.float64)):
        np.testing.assert_array_equal(spread(same, parts), chosen)


@many
@given(st.lists(st.floats(0, 1e12), max_size=30), st.integers(1, 5))
def test_spread_of_fractions(costs: list[float], parts: int) -> None:
    assert spread(np.array(costs, np.float64), parts).tolist() == spread_by_hand(costs, parts)


def test_a_known_spread() -> None:
    assert spread([7, 6, 5, 5, 4, 1], 2).tolist() == [0, 1, 1, 0, 1, 0]
    assert spread([0, 0, 0], 3).tolist() == [0, 1, 2]
    assert spread([], 2).tolist() == []
    assert spread(np.array([5]), 3).tolist() == [0]


def test_costs_beyond_int32_are_spread_exactly() -> None:
    costs = np.array([2**40, 2**40 - 1, 2, 1])
    assert spread(costs, 2).tolist() == [0, 1, 1, 0]
    assert spread(pa.chunked_array([costs[:1], costs[1:]]), 2).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("costs", "parts", "message"),
    [
        ([1, -2], 2, "item 1 costs -2"),
        ([1.0, float("nan")], 2, "item 1 costs nan"),
        ([float("inf")], 2, "item 0 costs inf"),
        (pa.array([1, None]), 2, "item 1 costs nan"),
        ([[1, 2]], 2, "costs are one number an item"),
        ([True], 2, "costs are one number an item"),
        ([1], 0, "parts is a number from 1 to 2,147,483,647, not 0"),
        ([1], 1.5, "parts is an integer, not 1.5"),
    ],
)
def test_what_cannot_be_spread(costs: object, parts: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        spread(costs, parts)


# --- fill_packs -----------------------------------------------------------------------------------------


def fill_by_hand(weights: list[int], budget: int, packs: int) -> list[int]:
    """The rules of `fill_packs`, one by one."""
    pool = len(weights)
    falling = sorted(range(pool), key=lambda item: -weights[item])
    prefix = max(end for end in range(pool + 1) if sum(weights[:end]) <= packs * budget)
    if prefix == pool:
        chosen = spread_by_hand(weights, packs)
        # The heaviest come first: where a part is never above the budget, none was when it took an item.
        if all(total <= budget for total in totals(np.array(chosen, int), weights, packs)):
            return chosen
    chosen = [-1] * pool
    free: list[int] = []
    place_by_hand([0], weights, budget, packs, free, chosen)
    place_by_hand([item for item in falling if 0 < item < prefix], weights, budget, packs, free, chosen)
    place_by_hand([item for item in falling if chosen[item] < 0], weights, budget, packs, free, chosen)
    for empty in range(len(free), min(packs, pool)):
        alone = [chosen.count(chosen[item]) == 1 for item in range(pool)]
        chosen[next(item for item in reversed(falling) if not alone[item])] = empty
    return chosen


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[int], int, int]:
    budget = draw(st.sampled_from([1, 7, 20, 64, 1000, 2**30]))
    sizes = st.integers(0, budget) | st.integers(0, max(1, budget // 8))
    return draw(st.lists(sizes, max_size=40)), budget, draw(st.integers(1, 9))


@many
@given(pools())
def test_fill_packs_against_plain_python(problem: tuple[list[int], int, int]) -> None:
    weights, budget, packs = problem
    chosen = fill_packs(np.array(weights, np.int64), budget, packs)
    assert chosen.dtype == np.int32
    assert chosen.tolist() == fill_by_hand(weights, budget, packs)
    for same in (np.array(weights, np.int32), pa.array(weights, pa.int64())):
        np.testing.assert_array_equal(fill_packs(same, budget, packs), chosen)


@many
@given(pools())
def test_every_fill_keeps_its_promises(problem: tuple[list[int], int, int]) -> None:
    weights, budget, packs = problem
    chosen = fill_packs(np.array(weights, np.int64), budget, packs)
    loads = totals(chosen, weights, packs)
    assert max(loads) <= budget
    if weights:
        assert chosen[0] >= 0  # the oldest
        assert chosen.min() >= -1
        assert chosen.max() < packs
    if len(weights) >= packs:
        assert set(range(packs)) <= set(chosen.tolist())
    # What waits fits nowhere.
    for pack, weight in zip(chosen.tolist(), weights, strict=True):
        assert pack >= 0 or weight > budget - min(loads)


def test_a_known_fill() -> None:
    # The oldest three are 17 of 20: 4 first, then 8 and 5. None of the rest fits, or two of them do.
    assert fill_packs([4, 8, 5, 7, 3, 3], 10, 2).tolist() == [0, 1, 0, -1, -1, -1]
    assert fill_packs([4, 8, 5, 7, 2, 1], 10, 2).tolist() == [0, 1, 0, -1, 1, 0]
    # All of it fits: evenly.
    assert fill_packs([4, 3, 2, 1], 10, 2).tolist() == [0, 1, 1, 0]
    assert fill_packs([4], 10, 3).tolist() == [0]
    assert fill_packs([], 10, 3).tolist() == []


def test_it_all_fits_but_not_spread_evenly() -> None:
    # Longest processing time first would make 7 of 6.
    assert fill_packs([3, 3, 2, 2, 2], 6, 2).tolist() == [0, 0, 1, 1, 1]


def test_a_pack_left_empty_gets_the_lightest_that_is_not_alone() -> None:
    # Evenly spread, every pack has a 50 and a 27, and the last 27 fits nowhere; by best fit seven packs do.
    weights = [50] * 8 + [27] * 9
    chosen = fill_packs(weights, 100, 8)
    assert totals(chosen, weights, 8) == [100, 100, 100, 100, 81, 81, 54, 27]
    assert chosen.tolist() == fill_by_hand(weights, 100, 8)


def test_a_steady_stream_fills_packs_and_none_waits_long() -> None:
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(4.5, 1.0, 50_000), 1, 2048).astype(np.int32)
    budget, packs, room = 4096, 8, 600
    pool = np.arange(room)
    arrived, fills, spans, served = room, [], [], []
    while arrived < len(lengths):
        chosen = fill_packs(lengths[pool], budget, packs)
        assert chosen[0] >= 0
        taken = pool[chosen >= 0]
        loads = np.bincount(chosen[chosen >= 0], weights=lengths[taken], minlength=packs)
        fills.append(loads.mean() / budget)
        spans.append(loads.max() / loads.mean())
        served.append(taken)
        end = min(len(lengths), arrived + len(taken))
        pool = np.concatenate((pool[chosen < 0], np.arange(arrived, end)))
        arrived = end
    assert np.mean(fills) > 0.999
    assert max(spans) < 1.01
    assert max(numbers.max() - numbers.min() for numbers in served) < 3 * room
    done = np.concatenate(served)
    assert len(set(done.tolist())) == len(done)


@pytest.mark.parametrize(
    ("weights", "budget", "packs", "message"),
    [
        ([1, 11], 10, 2, "sequence 1 has 11 units of weight, a pack holds 0 to 10"),
        ([1, -1], 10, 2, "sequence 1 has -1 units"),
        ([1.5], 10, 2, "lengths are integers, not float64"),
        (pa.array([1, None]), 10, 2, "sequence 1 is null"),
        ([1], 0, 2, "budget is a number from 1 to"),
        ([1], 10, 0, "packs is a number from 1 to"),
    ],
)
def test_pools_that_cannot_be_packed(weights: object, budget: int, packs: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fill_packs(weights, budget, packs)


def test_a_pool_of_a_thousand_takes_no_time() -> None:
    weights = np.random.default_rng(0).integers(1, 300, 1000).astype(np.int32)
    fill_packs(weights, 4096, 8)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        fill_packs(weights, 4096, 8)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3  # some 30 us on a quiet machine
