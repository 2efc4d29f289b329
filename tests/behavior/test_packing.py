from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing import pack_lengths
from tests.behavior.logs import many


def by_hand(lengths: list[int], budget: int) -> list[int]:
    """Best fit decreasing: each in the fullest pack that it fits. Free space of every pack."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [pack for pack in range(len(free)) if free[pack] >= length]
        if fitting:
            free[min(fitting, key=lambda pack: free[pack])] -= length
        else:
            free.append(budget - length)
    return free


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int]:
    budget = draw(st.sampled_from([1, 5, 63, 64, 65, 200]))
    return draw(st.lists(st.integers(0, budget), max_size=40)), budget


@many
@given(problems())
def test_packs_against_plain_python(problem: tuple[list[int], int]) -> None:
    lengths, budget = problem
    packs = pack_lengths(np.array(lengths, np.int64), budget)
    used = np.bincount(packs, weights=lengths, minlength=packs.max(initial=-1) + 1)
    assert len(packs) == len(lengths)
    assert (used <= budget).all()
    assert len(set(packs.tolist())) == len(used)  # numbered without gaps
    assert sorted((budget - used).tolist()) == sorted(by_hand(lengths, budget))
    np.testing.assert_array_equal(packs, pack_lengths(np.array(lengths, np.int32), budget))


def test_a_known_packing() -> None:
    assert pack_lengths(np.array([5, 7, 3, 5, 10]), 10).tolist() == [2, 1, 1, 2, 0]


def test_packing_is_nearly_perfect_for_many_short_sequences() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 20_000)
    packs = pack_lengths(lengths, 4096)
    assert packs.max() + 1 == -(-lengths.sum() // 4096)


@pytest.mark.parametrize(
    ("lengths", "budget", "message"),
    [
        ([1, 11, 2], 10, "sequence 1 has 11 tokens, a pack holds 0 to 10"),
        ([1, 2, -1], 10, "sequence 2 has -1 tokens"),
        ([], 0, "a pack of 0 tokens can hold nothing"),
    ],
)
def test_lengths_that_fit_no_pack(lengths: list[int], budget: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pack_lengths(np.array(lengths, np.int64), budget)
