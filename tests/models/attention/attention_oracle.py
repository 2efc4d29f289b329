"""Attention the slow obvious way: Python loops over one sequence at a time, from the formulas.

Written from HSTU (arXiv 2402.17152) and SASRec (arXiv 1808.09781); shares no code with the package. All in
float64, and differentiable by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def bucket(difference: int) -> int:
    """floor(ln(max(1, |d|)) / 0.301), clamped to 0..128."""
    return min(128, math.floor(math.log(max(1, abs(difference))) / 0.301))


@dataclass
class Rules:
    """A mask over one sequence: context tokens, then the history, then candidates."""

    length: int
    window: int | None = None
    prefix: int = 0
    context: int = 0
    candidates: int = 0

    def logical_position(self, place: int) -> int:
        """Context tokens stand together at 0, candidates together behind the history."""
        if place < self.context:
            return 0
        first_candidate = self.length - self.candidates
        if place > first_candidate:
            place = first_candidate
        return place if self.context == 0 else place - self.context + 1

    def sees(self, i: int, j: int) -> bool:
        if i == j:
            return True
        if i < self.context:
            return j < self.context
        if j > i or j >= self.length - self.candidates:
            return False
        if j < self.context + self.prefix or self.window is None:
            return True
        return self.logical_position(i) - self.logical_position(j) < self.window


@dataclass
class Bias:
    """Tables of one head, and the times of one sequence."""

    position: Tensor | None = None
    time: Tensor | None = None
    amount: Tensor | None = None
    rate: Tensor | None = None
    decay: str | None = None
    query_time: Sequence[int] = ()
    timestamp: Sequence[int] = ()
    apart: Tensor | None = None
    """[queries, length] scores that were computed apart."""

    def between(self, rules: Rules, i: int, j: int, row: int) -> Tensor:
        """rab[i, j]; `row` is the query's row in the list of query times."""
        total = torch.zeros((), dtype=torch.float64) if self.apart is None else self.apart[row, j]
        if self.position is not None:
            total = total + self.position[max(0, rules.logical_position(i) - rules.logical_position(j))]
        if self.query_time:
            apart = abs(self.query_time[row] - self.timestamp[j])
            if self.time is not None:
                total = total + self.time[bucket(apart)]
            if self.amount is not None and self.rate is not None:
                if self.decay == "power":
                    total = total + self.amount * torch.exp(-self.rate * math.log(1 + apart))
                else:
                    total = total + self.amount * torch.exp(-self.rate * apart)
        return total


def one_head(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    activation: str,
    rules: Rules,
    bias: Bias,
    qk_scale: float,
    output_scale: float,
) -> Tensor:
    """Attention of one head over one sequence: q [queries, dim], k and v [length, dim] -> [queries, dim].

    Queries are the last tokens of the sequence.
    """
    rows = []
    for row in range(len(q)):
        i = len(k) - len(q) + row
        seen = [j for j in range(len(k)) if rules.sees(i, j)]
        scores = [(q[row] * k[j]).sum() * qk_scale + bias.between(rules, i, j, row) for j in seen]
        if activation == "silu":
            weights = [score / (1 + torch.exp(-score)) for score in scores]
        elif activation == "identity":
            weights = scores
        else:
            powers = [torch.exp(score) for score in scores]
            weights = [power / sum(powers) for power in powers]
        rows.append(sum(weight * v[j] for weight, j in zip(weights, seen, strict=True)) * output_scale)
    return torch.stack(rows) if rows else (q.sum() + v.sum(0)).expand(0, -1)


def one_sequence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    activation: str,
    window: int | None = None,
    prefix: int = 0,
    context: int = 0,
    candidates: int = 0,
    position: Tensor | None = None,
    time: Tensor | None = None,
    amount: Tensor | None = None,
    rate: Tensor | None = None,
    decay: str | None = None,
    query_time: Sequence[int] = (),
    timestamp: Sequence[int] = (),
    qk_scale: float = 1.0,
    output_scale: float = 1.0,
    apart: Tensor | None = None,
) -> Tensor:
    """Attention of one sequence, q [queries, heads, dim], k and v [length, heads, dim], all float64.

    Tables are [size] or [heads, size], amount and rate of a decay [1] or [heads]; scores that were computed
    `apart` are [heads, queries, length].
    """
    rules = Rules(len(k), window, prefix, context, candidates)
    heads = []
    for head in range(q.shape[1]):

        def own(table: Tensor | None, head: int = head, dims: int = 2) -> Tensor | None:
            shared = table is None or table.ndim < dims or len(table) == 1
            return (table if table is None or table.ndim < dims else table[0]) if shared else table[head]

        bias = Bias(
            own(position), own(time), own(amount, dims=1), own(rate, dims=1), decay, query_time, timestamp
        )
        bias.apart = None if apart is None else apart[head]
        heads.append(
            one_head(
                q[:, head],
                k[:, head],
                v[:, head],
                activation=activation,
                rules=rules,
                bias=bias,
                qk_scale=qk_scale,
                output_scale=output_scale,
            )
        )
    return torch.stack(heads, dim=1)


def norm(row: Tensor, eps: float) -> Tensor:
    """One vector, centered and divided by its (biased) standard deviation."""
    centered = row - row.sum() / len(row)
    return centered / torch.sqrt((centered * centered).sum() / len(row) + eps)
