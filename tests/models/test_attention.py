"""Attention against loops written from the formulas, and the blocked kernel against the dense one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.attention import (
    Causal,
    Mask,
    RelativeBias,
    RelativeTime,
    Sequences,
    TimeDecay,
    attention,
    blocked,
)
from tests.models.attention_oracle import one_sequence


# The first call compiles, so examples may take long.
def relaxed(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Problem:
    """Random inputs of attention; the same seed gives the same numbers for any dtype."""

    lengths: tuple[int, ...]
    heads: int = 1
    qk_dim: int = 5
    v_dim: int = 5
    activation: str = "silu"
    window: int | None = None
    prefix: int = 0
    context: int = 0
    candidates: int | None = None
    """Of each sequence, or as many as there is room for."""
    last: int | None = None
    """Queries are so many last tokens of each sequence, or all it has."""
    bias: str = "both"
    """both, time, position or none; of the two tables."""
    per_head: tuple[str, ...] = ()
    """Which of position, time and decay have a row a head."""
    decay: str | None = None
    time_span: int = 10**6
    sorted_times: bool = False
    seed: int = 0
    dtype: torch.dtype = torch.float64
    rounded: torch.dtype = torch.float64
    """The type through which q, k, v and the gradient go before they become `dtype`."""
    device: str = "cpu"

    @property
    def candidate_counts(self) -> list[int]:
        return [min(self.candidates or 0, max(length - self.context, 0)) for length in self.lengths]

    @property
    def mask(self) -> Mask:
        counts = None
        if self.candidates is not None:
            counts = torch.tensor(self.candidate_counts, dtype=torch.int64, device=self.device)
        return Mask(self.window, self.prefix, self.context, counts)

    @property
    def query_lengths(self) -> list[int]:
        return [length if self.last is None else min(self.last, length) for length in self.lengths]

    def times(self) -> tuple[Tensor, Tensor]:
        """Query times and timestamps in any order, so differences are negative, zero and large.

        Sorted as in a log, if so wished: the query time is that of the next event.
        """
        generator = torch.Generator().manual_seed(self.seed + 1)
        tokens = sum(self.lengths)
        query_time, timestamp = torch.randint(0, self.time_span + 1, (2, tokens), generator=generator)
        if self.sorted_times:
            timestamp = timestamp.sort().values
            query_time = torch.cat([timestamp[1:], timestamp[-1:]])
        return query_time[: sum(self.query_lengths)].to(self.device), timestamp.to(self.device)

    def tensors(self) -> dict[str, Tensor]:
        """All inputs by name, and the gradient of the result; leaves."""
        generator = torch.Generator().manual_seed(self.seed)
        tokens = sum(self.lengths)
        shapes: dict[str, tuple[int, ...]] = {
            "q": (sum(self.query_lengths), self.heads, self.qk_dim),
            "k": (tokens, self.heads, self.qk_dim),
            "v": (tokens, self.heads, self.v_dim),
            "gradient": (sum(self.query_lengths), self.heads, self.v_dim),
        }
        rows = {name: (self.heads,) if name in self.per_head else () for name in ("position", "time")}
        if self.bias in ("both", "position"):
            shapes["position"] = (*rows["position"], max(self.lengths, default=0) + 3)
        if self.bias in ("both", "time"):
            shapes["time"] = (*rows["time"], 129)
        if self.decay is not None:
            shapes["amount"] = shapes["rate"] = (self.heads if "decay" in self.per_head else 1,)
        drawn = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in shapes.items()
        }
        if self.decay is not None:
            drawn["rate"] = drawn["rate"].abs() * (0.2 if self.decay == "power" else 1e-5)
        for name in ("q", "k", "v", "gradient"):
            drawn[name] = drawn[name].to(self.rounded)
        # What belongs to a bias stays in float32 when the rest is in half of it.
        table = torch.promote_types(self.dtype, torch.float32)
        return {
            name: tensor.to(
                self.device, self.dtype if name in ("q", "k", "v", "gradient") else table
            ).requires_grad_(name != "gradient")
            for name, tensor in drawn.items()
        }

    def solve(self, kernel: str) -> dict[str, Tensor]:
        """The result of a kernel and all gradients, by name."""
        tensors = self.tensors()
        gradient = tensors.pop("gradient")
        sequences = Sequences.from_lengths(self.lengths, self.device)
        queries = None if self.last is None else Sequences.from_lengths(self.query_lengths, self.device)
        bias = None
        if self.bias != "none" or self.decay is not None:
            decay = None
            if self.decay is not None:
                decay = TimeDecay(tensors["amount"], tensors["rate"], self.decay)  # type: ignore[arg-type]
            relative_time = RelativeTime(*self.times(), sequences, queries)
            bias = RelativeBias(tensors.get("position"), tensors.get("time"), relative_time, decay)
        out = attention(
            tensors["q"],
            tensors["k"],
            tensors["v"],
            sequences,
            activation=self.activation,  # type: ignore[arg-type]
            mask=self.mask,
            bias=bias,
            qk_scale=0.4,
            output_scale=0.7,
            queries=queries,
            kernel=kernel,
        )
        return _with_gradients(out, tensors, gradient)

    def solve_by_loops(self) -> dict[str, Tensor]:
        """The same from the formulas, one sequence after the other."""
        tensors = self.tensors()
        gradient = tensors.pop("gradient")
        query_time, timestamp = self.times()
        asked = torch.arange(sum(self.query_lengths)).split(self.query_lengths)
        keys = torch.arange(sum(self.lengths)).split(list(self.lengths))
        rows = [
            one_sequence(
                tensors["q"][asking],
                tensors["k"][part],
                tensors["v"][part],
                activation=self.activation,
                window=self.window,
                prefix=self.prefix,
                context=self.context,
                candidates=candidates,
                **{name: tensors.get(name) for name in ("position", "time", "amount", "rate")},
                decay=self.decay,
                query_time=query_time[asking].tolist(),
                timestamp=timestamp[part].tolist(),
                qk_scale=0.4,
                output_scale=0.7,
            )
            for asking, part, candidates in zip(asked, keys, self.candidate_counts, strict=True)
        ]
        return _with_gradients(torch.cat(rows), tensors, gradient)


def _with_gradients(out: Tensor, tensors: dict[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(out, list(tensors.values()), gradient, allow_unused=True)
    found = {
        name: torch.zeros_like(tensor) if grad is None else grad
        for (name, tensor), grad in zip(tensors.items(), gradients, strict=True)
    }
    return {"out": out.detach(), **found}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal up to `tolerance` times the largest number (1 at least): sums round by their largest terms."""
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        scale = max(1.0, float(truth.abs().max())) if truth.numel() else 1.0
        torch.testing.assert_close(
            found[name].double(),
            truth.double(),
            rtol=0.0,
            atol=tolerance * scale,
            msg=lambda text, n=name: f"{n}: {text}",
        )


activations = st.sampled_from(["silu", "softmax", "identity"])
biases = st.sampled_from(["both", "time", "position", "none"])
# All events at once, within minutes, within years, and far beyond what a log holds.
spans = st.sampled_from([0, 300, 10**8, 10**15])


def maybe(strategy: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), strategy)


def problems(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Problem]:
    """Problems with every mask and bias; sizes are up to the caller."""
    rows = st.sets(st.sampled_from(["position", "time", "decay"])).map(lambda names: tuple(sorted(names)))
    settings = {
        "activation": activations,
        "window": maybe(st.integers(1, 40)),
        "prefix": st.sampled_from([0, 0, 1, 70]),
        "context": st.sampled_from([0, 0, 1, 2, 5, 70]),
        "candidates": maybe(st.integers(0, 70)),
        "last": maybe(st.integers(0, 70)),
        "bias": biases,
        "per_head": rows,
        "decay": st.sampled_from([None, None, "power", "exponential"]),
        "time_span": spans,
        "seed": st.integers(0, 1000),
    }
    return st.builds(Problem, **(settings | more))


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
