from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.kernels import falling_order
from behavior.packing.pack import NextFit, pack_in_order, pack_lengths
from tests.behavior.logs import many
from tests.behavior.packing.slow_packing import best_fit_by_hand, next_fit_by_hand


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int]:
    budget = draw(st.sampled_from([1, 5, 63, 64, 65, 200, 2**31 - 1]))
    sizes = st.integers(0, budget) | st.integers(0, max(1, budget // 10))
    return draw(st.lists(sizes, max_size=40)), budget


def inputs(lengths: list[int]) -> list[object]:
    """The same lengths in every form that is taken."""
    chunks = pa.chunked_array([lengths[:2], [], lengths[2:]], pa.int64())
    same = [np.array(lengths, np.int32), np.array(lengths, np.uint64), lengths, pa.array(lengths, pa.int32())]
    if sum(lengths) < 10_000:
        events = [[0] * length for length in lengths]
        same += [pa.array(events, pa.list_(pa.int8())), pa.array(events, pa.large_list(pa.int64()))]
    return [*same, chunks, np.repeat(np.array(lengths, np.int64), 2)[::2]]


@many
@given(problems())
def test_best_fit_against_plain_python(problem: tuple[list[int], int]) -> None:
    lengths, budget = problem
    packs = pack_lengths(np.array(lengths, np.int64), budget)
    assert packs.dtype == np.int32
    assert packs.tolist() == best_fit_by_hand(lengths, budget)
    used = np.bincount(packs, weights=lengths)
    assert (used <= budget).all()
    assert len(set(packs.tolist())) == len(used)  # numbered without gaps
    for same in inputs(lengths):
        np.testing.assert_array_equal(pack_lengths(same, budget), packs)


@many
@given(problems())
def test_next_fit_against_plain_python(problem: tuple[list[int], int]) -> None:
    lengths, budget = problem
    packs = pack_in_order(np.array(lengths, np.int64), budget)
    assert packs.dtype == np.int32
    assert packs.tolist() == next_fit_by_hand(lengths, budget)
    assert (np.diff(packs) >= 0).all()
    for same in inputs(lengths):
        np.testing.assert_array_equal(pack_in_order(same, budget), packs)


@many
@given(problems(), st.lists(st.integers(0, 40), max_size=6))
def test_a_stream_is_packed_as_a_whole(problem: tuple[list[int], int], cuts: list[int]) -> None:
    lengths, budget = problem
    stream = NextFit(budget)
    bounds = [0, *sorted(min(cut, len(lengths)) for cut in cuts), len(lengths)]
    packs = [stream.add(lengths[start:end]) for start, end in pairwise(bounds)]
    assert np.concatenate(packs).tolist() == next_fit_by_hand(lengths, budget)
    assert stream.pack == max(next_fit_by_hand(lengths, budget), default=0)


def test_a_stream_goes_on_from_its_state_and_after_an_error() -> None:
    stream = NextFit(10)
    assert stream.add([6, 3]).tolist() == [0, 0]
    with pytest.raises(UserError, match="sequence 1 has 11 tokens"):
        stream.add([1, 11])
    again = NextFit(10, pack=stream.pack, used=stream.used)
    assert stream.add([1, 1]).tolist() == again.add([1, 1]).tolist() == [0, 1]
    assert (stream.pack, stream.used) == (1, 1)


@many
@given(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 5000), max_size=60))
def test_falling_order_is_a_stable_sort(weights: list[int]) -> None:
    expected = sorted(range(len(weights)), key=lambda item: -weights[item])
    assert falling_order(np.array(weights, np.int32)).tolist() == expected


def test_a_known_packing() -> None:
    assert pack_lengths(np.array([5, 7, 3, 5, 10]), 10).tolist() == [2, 1, 1, 2, 0]
    assert pack_in_order(np.array([5, 7, 3, 5, 10]), 10).tolist() == [0, 1, 1, 2, 3]


def test_packing_is_nearly_perfect_for_many_short_sequences() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 20_000)
    packs = pack_lengths(lengths, 4096)
    assert packs.max() + 1 == -(-lengths.sum() // 4096)


@pytest.mark.parametrize("pack", [pack_lengths, pack_in_order])
@pytest.mark.parametrize(
    ("lengths", "budget", "message"),
    [
        ([1, 11, 2], 10, "sequence 1 has 11 tokens, a pack holds 0 to 10"),
        ([1, 2, -1], 10, "sequence 2 has -1 tokens"),
        (np.array([2**63], np.uint64), 10, "sequence 0 has 9,223,372,036,854,775,808 tokens"),
        ([], 0, "a pack of 0 tokens can hold nothing"),
        ([], -3, "a pack of -3 tokens can hold nothing"),
        ([], float("nan"), "a budget is a finite number, not nan"),
        ([], "12", "a budget is a finite number, not '12'"),
        ([1.0], 10, "lengths are integers, not float64"),
        ([True], 10, "lengths are integers, not bool"),
        ([[1], [2]], 10, "lengths have 2 dimensions"),
        (pa.array([1, None, 2]), 10, "sequence 1 is null"),
        (pa.chunked_array([[[1]], [None]]), 10, "sequence 1 is null"),
        (pa.array([1.0]), 10, "lengths are integers or lists, not double"),
    ],
)
def test_lengths_that_fit_no_pack(pack: object, lengths: object, budget: float, message: str) -> None:
    assert callable(pack)
    if isinstance(lengths, list) and not lengths:
        lengths = np.zeros(0, np.int64)
    with pytest.raises(UserError, match=message):
        pack(lengths, budget)
