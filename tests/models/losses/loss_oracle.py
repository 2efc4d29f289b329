"""Losses the slow obvious way: one score at a time, from the formulas; shares no code with the package
but its settings.

All in float64, and differentiable by autograd. A position's negatives are `(rank, times)`: an item, and how
often it is expected among them (1 where that is not to be corrected).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from models.losses import LossConfig

Negatives = Sequence[Sequence[tuple[int, float]]]


def softmax_over_all(
    query: Tensor, items: Tensor, target: Sequence[int], temperature: float, smoothing: float = 0.0
) -> Tensor:
    """Mean of `-sum_i label_i log p_i`."""
    total = torch.zeros((), dtype=torch.float64)
    for q, t in zip(query, target, strict=True):
        odds = [((q * item).sum() / temperature).exp() for item in items]
        for i, one in enumerate(odds):
            label = smoothing / len(items) + (1.0 - smoothing if i == t else 0.0)
            total = total - label * (one / sum(odds)).log()
    return total / len(target)


def softmax_over_some(
    query: Tensor,
    items: Tensor,
    target: Sequence[int],
    negatives: Negatives,
    temperature: float,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean of `-sum_i label_i log p_i`, each negative in the place of `1 / times` items."""
    total = torch.zeros((), dtype=torch.float64)
    for q, t, against in zip(query, target, negatives, strict=True):
        candidates = [(t, 1.0), *((rank, times) for rank, times in against if rank != t)]
        logits = [(q * items[rank]).sum() / temperature for rank, _ in candidates]
        shares = [1.0 / times for _, times in candidates]
        normalizer = sum(share * logit.exp() for share, logit in zip(shares, logits, strict=True)).log()
        for k, (share, logit) in enumerate(zip(shares, logits, strict=True)):
            label = smoothing * share / sum(shares) + (1.0 - smoothing if k == 0 else 0.0)
            total = total - label * (logit - normalizer)
    return total / len(target)


def binary(
    query: Tensor,
    items: Tensor,
    target: Sequence[int],
    negatives: Negatives,
    temperature: float,
    beta: float = 1.0,
) -> Tensor:
    """Mean over positions of the mean over the positive and its negatives that are not the positive."""
    total = torch.zeros((), dtype=torch.float64)
    for q, t, against in zip(query, target, negatives, strict=True):
        terms = [-(((q * items[t]).sum() / temperature).sigmoid() ** beta).log()]
        for rank, _ in against:
            if rank != t:
                terms.append(-(1.0 - ((q * items[rank]).sum() / temperature).sigmoid()).log())
        total = total + sum(terms) / len(terms)
    return total / len(target)


def _calibrated(
    query: Tensor, items: Tensor, target: Sequence[int], negatives: Negatives, config: LossConfig
) -> Tensor:
    """beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha), alpha the share of the other items that is drawn."""
    alpha = config.negatives.count / (len(items) - 1)
    beta = alpha * (config.calibration * (1 - 1 / alpha) + 1 / alpha)
    return binary(query, items, target, negatives, config.temperature, beta)


Oracle = Callable[[Tensor, Tensor, Sequence[int], Negatives, LossConfig], Tensor]
"""The mean loss of queries [positions, dim], items [items, dim], the rank of each position's target, its
negatives, and the settings."""

ORACLES: dict[str, Oracle] = {
    "full_softmax": lambda query, items, target, _, config: softmax_over_all(
        query, items, target, config.temperature, config.label_smoothing
    ),
    "sampled_softmax": lambda query, items, target, negatives, config: softmax_over_some(
        query, items, target, negatives, config.temperature, config.label_smoothing
    ),
    "bce": lambda query, items, target, negatives, config: binary(
        query, items, target, negatives, config.temperature
    ),
    "gbce": _calibrated,
}
"""By `loss.kind`, every kind: the tests of losses go through them all."""
