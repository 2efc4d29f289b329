"""Random problems for attention kernels: any mask, any bias, solved by a kernel or by loops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from models.attention import Mask, RelativeBias, RelativeTime, Sequences, TimeDecay, attention
from tests.models.attention.attention_oracle import one_sequence


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
    skew: int = 0
    """Events whose sorted time changes places with that of one of the next 8: clocks differ."""
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
            for place in torch.randint(0, max(tokens, 1), (self.skew,), generator=generator).tolist():
                later = min(place + int(torch.randint(1, 9, (), generator=generator)), tokens - 1)
                timestamp[[place, later]] = timestamp[[later, place]]
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
        return self._with_gradients(out, tensors, gradient)

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
        return self._with_gradients(torch.cat(rows), tensors, gradient)

    def _with_gradients(self, out: Tensor, tensors: dict[str, Tensor], gradient: Tensor) -> dict[str, Tensor]:
        gradients = torch.autograd.grad(out, list(tensors.values()), gradient, allow_unused=True)
        found = {
            name: torch.zeros_like(tensor) if grad is None else grad
            for (name, tensor), grad in zip(tensors.items(), gradients, strict=True)
        }
        if "rate" in found:
            found["rate"] = found["rate"] / self._steepest(tensors["amount"], tensors["rate"])
        return {"out": out.detach(), **found}

    def _steepest(self, amount: Tensor, rate: Tensor) -> float:
        """The most by which a score changes with the rate, 1 at least.

        A rate's gradient sums gradients of scores, each times such a number: thousands, where differences are
        seconds. A softmax over one key has no gradient; what is left is rounding, times that number.
        """
        query_time, timestamp = self.times()
        furthest = 0.0
        if timestamp.numel() and query_time.numel():
            ends = (query_time.max() - timestamp.min(), timestamp.max() - query_time.min())
            furthest = max(abs(float(end)) for end in ends)
        if self.decay == "power":
            furthest = math.log1p(furthest)
        # x exp(-rate x) is largest where x is 1 / rate.
        return max(1.0, amount.detach().abs().max().item() * min(furthest, 1 / (math.e * rate.min().item())))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal up to `tolerance` times the largest number (1 at least): sums round by their largest terms."""
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        scale = max(1.0, float(truth.abs().max())) if truth.numel() else 1.0
        if name in ("amount", "rate"):
            scale *= 4.0  # sums over all pairs of terms of both signs, larger than what is left of them
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
