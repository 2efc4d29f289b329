"""Heads of more than 128 numbers, which the kernels cut in another way, and keep gradients of scores of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from models.attention import Causal, Sequences, attention
from tests.models.attention.attention_problems import Problem, assert_same
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [
    pytest.mark.usefixtures("interpreted"),
    # Of what is read past the end of a sequence, or masked, and stored nowhere.
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

# Past a tile of queries, with a rest; and what is shorter than a tile.
WIDE = Problem((140, 0, 70), heads=2, qk_dim=136, v_dim=130, bias="none", sorted_times=True)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each backward pass, whether it keeps gradients of scores."""
    from models.attention.silu import launch

    passes: list[bool] = []
    prepare = launch.backward

    def noted(*given: Any) -> launch.Backward:
        shared = prepare(*given)
        passes.append(shared.kept is not None)
        return shared

    monkeypatch.setattr(launch, "backward", noted)
    return passes


def check(problem: Problem) -> None:
    found = replace(problem, dtype=torch.float16, device=DEVICE).solve("triton")
    expected = replace(problem, rounded=torch.float16, device=DEVICE).solve("reference")
    assert_same(found, expected, 3e-3)


def test_gradients_of_scores_are_kept_for_those_of_queries(kept: list[bool]) -> None:
    check(WIDE)
    assert kept == [True]


def test_or_found_again_where_memory_is_short(kept: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    from models.attention.silu import wide

    monkeypatch.setattr(wide, "most_bytes", lambda device: 2 * 210 * 256 * 2 - 1)
    check(WIDE)
    assert kept == [False]
    monkeypatch.setattr(wide, "most_bytes", lambda device: 2 * 210 * 256 * 2)
    check(WIDE)
    assert kept == [False, True]


BIASED = replace(WIDE, lengths=(130, 0, 20), bias="both", time_span=10**7, per_head=("time",))


@pytest.mark.parametrize("memory", [1 << 24, 0])
def test_the_bias_of_all_pairs_is_written_and_tables_are_summed_of_what_is_kept(
    memory: int, kept: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or neither, where memory is short."""
    from models.attention.silu import launch, wide

    written: list[bool] = []
    write = launch.write_bias

    def noted(*given: Any) -> wide.Written | None:
        found = write(*given)
        written.append(found is not None)
        return found

    monkeypatch.setattr(launch, "write_bias", noted)
    monkeypatch.setattr(wide, "most_bytes", lambda device: memory)
    check(BIASED)
    assert kept == [memory > 0]
    assert written == [memory > 0]


@pytest.mark.parametrize(
    "problem", [replace(WIDE, bias="position"), replace(WIDE, bias="time", time_span=10**7)]
)
def test_heads_may_share_one_bias(problem: Problem, kept: list[bool]) -> None:
    check(problem)
    assert kept == [True]


@pytest.mark.parametrize("window", [None, 150])
def test_times_out_of_order(window: int | None, kept: list[bool]) -> None:
    """Forward has no simple tiles then, and compares with boundaries in all tiles that have few."""
    check(replace(BIASED, heads=1, lengths=(270, 30), skew=5, time_span=10**8, per_head=(), window=window))
    assert kept == [window is None]


@pytest.mark.parametrize(
    "problem", [replace(WIDE, window=40), replace(WIDE, candidates=9), replace(BIASED, decay="power")]
)
def test_and_not_where_a_mask_or_a_bias_asks_for_it(problem: Problem, kept: list[bool]) -> None:
    check(problem)
    assert kept == [False]


@pytest.mark.parametrize("problem", [WIDE, BIASED])
def test_an_allocation_that_fails_is_done_without(
    problem: Problem, kept: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = torch.Tensor.new_empty

    def failing(tensor: torch.Tensor, shape: Any, **more: Any) -> torch.Tensor:
        if isinstance(shape, tuple) and len(shape) == 3 and shape[2] == 256:
            raise torch.OutOfMemoryError
        return make(tensor, shape, **more)

    monkeypatch.setattr(torch.Tensor, "new_empty", failing)
    check(problem)
    assert kept == [False]


def test_lengths_that_the_host_does_not_know(kept: list[bool]) -> None:
    """With room for more tokens, as in a CUDA graph."""
    torch.manual_seed(0)
    q, k, v, given = torch.randn(4, 180, 2, 136, device=DEVICE).half().unbind()
    offsets = torch.tensor([0, 130, 150], device=DEVICE)
    room = Sequences.unread(offsets, tokens=180, longest=140)
    known = Sequences(offsets, (130, 20))
    results = []
    for sequences, tokens in ((room, 180), (known, 150)):
        leaves = [part[:tokens].detach().requires_grad_() for part in (q, k, v)]
        out = attention(*leaves, sequences, activation="silu", mask=Causal(), kernel="triton")
        found = [out, *torch.autograd.grad(out, leaves, given[:tokens])]
        results.append([one[:150] for one in found])
        assert all(not one[150:].any() for one in found)
    assert kept == [True, True]
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_what_lies_between_is_never_read(kept: list[bool]) -> None:
    """Room for pairs that are masked is not written, and holds anything."""
    torch.use_deterministic_algorithms(True)  # Fills new memory with NaN.
    try:
        check(WIDE)
        check(BIASED)
    finally:
        torch.use_deterministic_algorithms(False)
    assert kept == [True, True]
