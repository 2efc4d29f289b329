"""Attention the slow obvious way: Python loops over one sequence at a time, from the formulas.

Written from HSTU (arXiv 2402.17152) and SASRec (arXiv 1808.09781); shares no code with the package. All in
float64, and differentiable by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def bucket(difference: int) -> int:
    """floor(ln(max(1, |d|)) / 0.301), clamped to 0..128."""
    return min(128, math.floor(math.log(max(1, abs(difference))) / 0.301))


def relative_bias(
    i: int,
    j: int,
    position: Tensor | None,
    time: Tensor | None,
    query_time: Sequence[int],
    timestamp: Sequence[int],
) -> Tensor:
    """rab[i, j]."""
    total = torch.zeros((), dtype=torch.float64)
    if position is not None:
        total = total + position[i - j]
    if time is not None:
        total = total + time[bucket(query_time[i] - timestamp[j])]
    return total


def one_sequence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    activation: str,
    window: int | None = None,
    position: Tensor | None = None,
    time: Tensor | None = None,
    query_time: Sequence[int] = (),
    timestamp: Sequence[int] = (),
    qk_scale: float = 1.0,
    output_scale: float = 1.0,
) -> Tensor:
    """Attention of one sequence, q, k, v [length, heads, dim] float64."""
    length, heads, _ = q.shape
    rows = []
    for i in range(length):
        for head in range(heads):
            seen = [j for j in range(i + 1) if window is None or i - j < window]
            scores = [
                (q[i, head] * k[j, head]).sum() * qk_scale
                + relative_bias(i, j, position, time, query_time, timestamp)
                for j in seen
            ]
            if activation == "silu":
                weights = [score / (1 + torch.exp(-score)) for score in scores]
            else:
                powers = [torch.exp(score) for score in scores]
                weights = [power / sum(powers) for power in powers]
            rows.append(
                sum(weight * v[j, head] for weight, j in zip(weights, seen, strict=True)) * output_scale
            )
    return torch.stack(rows).view(length, heads, -1) if rows else v * 0.0


def norm(row: Tensor, eps: float) -> Tensor:
    """One vector, centered and divided by its (biased) standard deviation."""
    centered = row - row.sum() / len(row)
    return centered / torch.sqrt((centered * centered).sum() / len(row) + eps)
