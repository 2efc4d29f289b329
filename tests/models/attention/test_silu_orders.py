"""The Triton kernels with times nearly in order, and with masks of every kind over many tiles, where simple
tiles (`simple_tiles`) lie between others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.attention.attention_problems import Problem, maybe, relaxed
from tests.models.attention.test_silu_kernels import check

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


def long_problems(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Problem]:
    settings = {
        "lengths": st.tuples(st.integers(140, 270), st.integers(0, 70)),
        "qk_dim": st.sampled_from([8, 16]),
        "v_dim": st.sampled_from([8, 16]),
        "bias": st.sampled_from(["both", "time"]),
        # Tiles of one bucket, of a few, of many, and beyond what 32-bit seconds tell.
        "time_span": st.sampled_from([300, 10**5, 10**8, 10**10]),
        "sorted_times": st.just(True),
        "skew": st.sampled_from([0, 1, 5]),
        "seed": st.integers(0, 1000),
    }
    return st.builds(Problem, **(settings | more))


@relaxed(5)
@given(long_problems(window=maybe(st.integers(1, 250)), time_span=st.sampled_from([300, 10**5, 10**8])))
def test_times_nearly_in_order(problem: Problem) -> None:
    check(problem, 1e-5)


@relaxed(6)
@given(
    long_problems(
        window=maybe(st.integers(1, 200)),
        prefix=st.sampled_from([0, 3, 70]),
        context=st.sampled_from([0, 1, 2, 7, 32]),
        candidates=maybe(st.integers(0, 100)),
    )
)
def test_masks_over_many_tiles(problem: Problem) -> None:
    check(problem, 1e-5)


@relaxed(3)
@given(long_problems(context=st.sampled_from([0, 5]), candidates=maybe(st.integers(0, 80))))
def test_float16(problem: Problem) -> None:
    check(problem, 3e-3, torch.float16)


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("sorted_times", [False, True])
def test_of_positions_alone_and_in_no_order(context: int, sorted_times: bool) -> None:
    """Positions have no times to be in order."""
    bias = "position" if sorted_times else "both"
    check(Problem((260, 70), bias=bias, context=context, sorted_times=sorted_times), 1e-5)
