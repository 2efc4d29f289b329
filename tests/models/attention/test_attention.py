"""Attention against loops written from the formulas, and the blocked kernel against the dense one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.attention import (
    Causal,
    Mask,
    RelativeBias,
    RelativeTime,
    Sequences,
    attention,
    blocked,
)
from tests.models.attention.attention_problems import Problem, assert_same, maybe, problems, relaxed


@relaxed(60)
@given(
    problems(
        lengths=st.lists(st.integers(0, 8), min_size=1, max_size=3).map(tuple),
        heads=st.integers(1, 2),
        qk_dim=st.integers(1, 3),
        v_dim=st.integers(1, 3),
        window=maybe(st.integers(1, 4)),
        prefix=st.integers(0, 2),
        context=st.integers(0, 3),
        candidates=maybe(st.integers(0, 3)),
        last=maybe(st.integers(0, 4)),
    )
)
def test_reference_is_the_formula(problem: Problem) -> None:
    assert_same(problem.solve("reference"), problem.solve_by_loops(), 1e-12)


@relaxed(120)
@given(
    problems(
        lengths=st.lists(st.integers(0, 140), min_size=1, max_size=4).map(tuple),
        heads=st.integers(1, 3),
        qk_dim=st.sampled_from([1, 7, 8, 25, 50]),
        v_dim=st.sampled_from([1, 3, 16, 25, 50]),
    )
)
def test_blocked_agrees_with_reference(problem: Problem) -> None:
    truth = problem.solve("reference")
    assert_same(replace(problem, dtype=torch.float32).solve("blocked"), truth, 1e-4)


def test_candidates_get_what_each_would_get_alone() -> None:
    problem = Problem((50, 33), candidates=7, window=20, context=2, heads=2)
    together = replace(problem, dtype=torch.float32).solve("blocked")["out"]
    tensors = replace(problem, dtype=torch.float32).tensors()
    query_time, timestamp = problem.times()
    for number in range(7):
        # The histories of 43 and 26 tokens, and one candidate each.
        rows = torch.cat([torch.arange(43), torch.tensor([43 + number])])
        rows = torch.cat([rows, torch.arange(50, 76), torch.tensor([76 + number])])
        sequences = Sequences.from_lengths([44, 27])
        times = RelativeTime(query_time[rows], timestamp[rows], sequences)
        alone = attention(
            *(tensors[name][rows] for name in ("q", "k", "v")),
            sequences,
            activation="silu",
            mask=Mask(window=20, context=2),
            bias=RelativeBias(tensors["position"], tensors["time"], times),
            qk_scale=0.4,
            output_scale=0.7,
            kernel="blocked",
        )
        torch.testing.assert_close(alone[[43, 70]], together[[43 + number, 76 + number]])


@pytest.mark.parametrize("activation", ["silu", "softmax"])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65, 96, 97, 128, 129])
def test_blocked_at_the_edges_of_its_tiles(length: int, activation: str) -> None:
    problem = Problem((length, 1, length), qk_dim=25, v_dim=25, activation=activation)
    assert_same(replace(problem, dtype=torch.float32).solve("blocked"), problem.solve("reference"), 1e-5)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
@pytest.mark.parametrize("activation", ["silu", "softmax"])
def test_blocked_holds_for_tiny_and_huge_scores(activation: str, scale: float) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 70, 1, 8, dtype=torch.float64)
    sequences = Sequences.from_lengths([70])
    truth = attention(q * scale, k, v, sequences, activation=activation, mask=Causal(), kernel="reference")
    q, k, v = q.float(), k.float(), v.float()
    found = attention(q * scale, k, v, sequences, activation=activation, mask=Causal(), kernel="blocked")
    assert_same({"out": found}, {"out": truth}, 1e-5)


def test_blocked_takes_views_that_are_not_contiguous() -> None:
    joined = torch.randn(40, 30)
    q, k, v = (part.unflatten(-1, (2, 5)) for part in joined.split(10, dim=-1))
    arguments: dict[str, Any] = {"activation": "silu", "mask": Causal()}
    found = attention(q, k, v, Sequences.from_lengths([40]), kernel="blocked", **arguments)
    expected = attention(q, k, v, Sequences.from_lengths([40]), kernel="reference", **arguments)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kernel", ["reference", "blocked"])
@pytest.mark.parametrize("activation", ["silu", "softmax"])
def test_a_later_event_changes_nothing_before_it(kernel: str, activation: str) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 80, 2, 5)
    arguments: dict[str, Any] = {"activation": activation, "mask": Causal(), "kernel": kernel}
    before = attention(q, k, v, Sequences.from_lengths([80]), **arguments)
    changed = [tensor.clone() for tensor in (q, k, v)]
    for tensor in changed:
        tensor[50] += 1.0
    after = attention(*changed, Sequences.from_lengths([80]), **arguments)
    assert torch.equal(before[:50], after[:50])
    assert not torch.isclose(before[50], after[50]).any()


@pytest.mark.parametrize("activation", ["silu", "softmax"])
def test_neighbors_in_the_batch_change_nothing_in_the_last_bit(activation: str) -> None:
    problem = Problem((50, 0, 70, 9), heads=2, activation=activation, dtype=torch.float32)
    tensors = problem.tensors()
    query_time, timestamp = problem.times()

    def solve(rows: slice, lengths: list[int]) -> list[Tensor]:
        sequences = Sequences.from_lengths(lengths)
        leaves = [tensors[name][rows].detach().requires_grad_() for name in ("q", "k", "v")]
        times = RelativeTime(query_time[rows], timestamp[rows], sequences)
        bias = RelativeBias(tensors["position"], tensors["time"], times)
        out = attention(*leaves, sequences, activation=activation, mask=Causal(), bias=bias, kernel="blocked")
        return [out, *torch.autograd.grad(out, leaves, tensors["gradient"][rows])]

    together = solve(slice(None), [50, 0, 70, 9])
    alone = solve(slice(50, 120), [70])
    for whole, part in zip(together, alone, strict=True):
        assert torch.equal(whole[50:120], part)


@pytest.mark.parametrize("activation", ["silu", "softmax"])
def test_the_number_of_threads_changes_nothing_in_the_last_bit(activation: str) -> None:
    problem = Problem((50, 0, 70, 9, 33, 64), heads=2, activation=activation, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(problem.solve("blocked"))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(result[name], tensor) for name, tensor in results[0].items())


def test_time_buckets_found_once_or_tile_by_tile_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem((50, 0, 70, 9), time_span=10**8, dtype=torch.float32)
    once = problem.solve("blocked")
    monkeypatch.setattr(blocked, "_MAX_CACHED_BUCKETS", 0)
    by_tile = problem.solve("blocked")
    assert all(torch.equal(by_tile[name], tensor) for name, tensor in once.items())


def test_gradients_are_those_of_the_tables_at_forward_time() -> None:
    problem = Problem((40,), dtype=torch.float32)
    tensors = problem.tensors()
    sequences = Sequences.from_lengths([40])
    bias = RelativeBias(tensors["position"], tensors["time"], RelativeTime(*problem.times(), sequences))
    q, k, v = (tensors[name] for name in ("q", "k", "v"))
    out = attention(q, k, v, sequences, activation="silu", mask=Causal(), bias=bias, kernel="blocked")
    (expected,) = torch.autograd.grad(out, q, tensors["gradient"], retain_graph=True)
    with torch.no_grad():
        tensors["position"] += 1.0
        tensors["time"] += 1.0
    (found,) = torch.autograd.grad(out, q, tensors["gradient"])
    assert torch.equal(found, expected)


_LONG_SEQUENCE = """
import resource, torch
from models.attention import Causal, RelativeBias, RelativeTime, Sequences, attention

def run(length):
    sequences = Sequences.from_lengths([length])
    q, k, v = (torch.randn(length, 1, 8, requires_grad=True) for _ in range(3))
    times = torch.arange(length) * 3600
    position, time = torch.randn(length, requires_grad=True), torch.randn(129, requires_grad=True)
    bias = RelativeBias(position, time, RelativeTime(times, times, sequences))
    out = attention(q, k, v, sequences, activation="silu", mask=Causal(), bias=bias, kernel="blocked")
    out.sum().backward()

run(100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(12_000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_blocked_never_holds_all_pairs() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _LONG_SEQUENCE], capture_output=True, text=True, check=True
    )
    # One byte a pair would be 137 MiB; q, k, v, the result and all gradients are 3 MiB.
    assert float(result.stdout) < 40
