"""Random inputs of softmax attention, for the kernels that take no other activation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

from models.attention import (
    Causal,
    LocalWindow,
    Mask,
    RelativeBias,
    RelativeTime,
    SemiLocal,
    Sequences,
    TimeDecay,
)
from models.attention.inputs import AttentionInputs

# How many candidates each sequence of the tests has, of which the shortest may have none.
CANDIDATES = 2


@dataclass(frozen=True)
class SoftmaxCase:
    """Random inputs of softmax attention; the same seed gives the same numbers for any type and device."""

    lengths: tuple[int, ...]
    heads: int = 2
    qk_dim: int = 8
    v_dim: int = 8
    mask: str = "causal"
    """`causal`, `window`, `semi-local`, `context` (of 2 tokens, with a window) or `candidates`."""
    bias: str = "none"
    """`none`, `position`, `time`, `decay` or `all`; with ` a head` after it, a row for each."""
    last_queries: int | None = None
    """Queries are only so many last tokens of each sequence."""
    seed: int = 0
    dtype: torch.dtype = torch.float64
    rounded: torch.dtype = torch.float64
    """The type that q, k, v and the gradient are rounded to before they become `dtype`."""
    device: str = "cpu"

    def solve(self, run: Callable[[AttentionInputs], Tensor]) -> dict[str, Tensor]:
        """The result and all gradients, by name, on the CPU."""
        leaves, inputs = self.inputs()
        out = run(inputs)
        given = self._draw("gradient", *out.shape).to(self.rounded).to(out)
        gradients = torch.autograd.grad(out, list(leaves.values()), given)
        found = {"out": out.detach(), **dict(zip(leaves, gradients, strict=True))}
        return {name: tensor.cpu() for name, tensor in found.items()}

    def inputs(self) -> tuple[dict[str, Tensor], AttentionInputs]:
        """The leaves of autograd, by name, and all inputs."""
        sequences = Sequences.from_lengths(self.lengths, self.device)
        queries = None
        if self.last_queries is not None:
            queries = Sequences.from_lengths([min(self.last_queries, n) for n in self.lengths], self.device)
        shapes = {
            "q": ((queries or sequences).num_tokens, self.heads, self.qk_dim),
            "k": (sequences.num_tokens, self.heads, self.qk_dim),
            "v": (sequences.num_tokens, self.heads, self.v_dim),
        }
        leaves = {name: self._draw(name, *shape).to(self.rounded) for name, shape in shapes.items()}
        leaves = {name: leaf.to(self.device, self.dtype) for name, leaf in leaves.items()}
        leaves |= self._tables()
        for leaf in leaves.values():
            leaf.requires_grad_()
        bias = self._bias(leaves, sequences, queries)
        mask = self._mask(sequences)
        q, k, v = leaves["q"], leaves["k"], leaves["v"]
        return leaves, AttentionInputs(q, k, v, sequences, "softmax", mask, bias, 0.4, 0.7, queries)

    def _draw(self, name: str, *shape: int) -> Tensor:
        number = ["q", "k", "v", "gradient", "position", "time", "amount", "times"].index(name)
        generator = torch.Generator().manual_seed(1000 * number + self.seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def _tables(self) -> dict[str, Tensor]:
        kind = self.bias.removesuffix(" a head")
        rows = (self.heads,) if kind != self.bias else ()
        longest = max(self.lengths) + 3
        shapes = {"position": (*rows, longest), "time": (*rows, 129), "amount": rows or (1,)}
        wanted = {"none": (), "all": tuple(shapes), "decay": ("amount",)}.get(kind, (kind,))
        # Tables stay in float32 when the rest is in half of it.
        dtype = torch.promote_types(self.dtype, torch.float32)
        tables = {name: self._draw(name, *shapes[name]).to(self.device, dtype) for name in wanted}
        if "amount" in tables:
            tables["rate"] = torch.full_like(tables["amount"], 0.3)
        return tables

    def _bias(
        self, leaves: dict[str, Tensor], sequences: Sequences, queries: Sequences | None
    ) -> RelativeBias | None:
        if self.bias == "none":
            return None
        times = self._draw("times", sequences.num_tokens).mul(10**6).long().sort().values
        index = torch.arange(sequences.num_tokens)
        asked = index
        if queries is not None:
            ends = index.split(list(sequences.lengths))
            asked = torch.cat([end[len(end) - n :] for end, n in zip(ends, queries.lengths, strict=True)])
        query_time = times[asked] + 60
        relative = RelativeTime(query_time.to(self.device), times.to(self.device), sequences, queries)
        decay = TimeDecay(leaves["amount"], leaves["rate"]) if "amount" in leaves else None
        return RelativeBias(leaves.get("position"), leaves.get("time"), relative, decay)

    def _mask(self, sequences: Sequences) -> Mask:
        candidates = sequences.offsets.diff().clamp(max=CANDIDATES)
        return {
            "causal": Causal(),
            "window": LocalWindow(3),
            "semi-local": SemiLocal(2, 2),
            "context": LocalWindow(3, context=2),
            "candidates": Causal(candidates=candidates),
        }[self.mask]


def relative_errors(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference over the largest number (1 at least), by name: sums round by their largest terms."""
    assert found.keys() == truth.keys()
    errors = {}
    for name, expected in truth.items():
        assert found[name].shape == expected.shape
        difference = (found[name].double() - expected.double()).abs().amax()
        errors[name] = float(difference / max(1.0, float(expected.abs().amax())))
    return errors


def assert_agrees(found: dict[str, Tensor], truth: dict[str, Tensor], tolerance: float) -> None:
    errors = relative_errors(found, truth)
    # Written so that a number that is not one fails.
    assert all(error <= tolerance for error in errors.values()), errors


MASKS = ["causal", "window", "semi-local", "context", "candidates"]
BIASES = ["none", "position", "time", "decay", "all", "all a head"]

softmax_cases = st.builds(
    SoftmaxCase,
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4).filter(any).map(tuple),
    heads=st.sampled_from([1, 3]),
    qk_dim=st.sampled_from([1, 8, 25]),
    v_dim=st.sampled_from([1, 8, 25]),
    mask=st.sampled_from(MASKS),
    bias=st.sampled_from(BIASES),
    last_queries=st.sampled_from([None, 1, 5]),
    seed=st.integers(0, 100),
)
relaxed = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
