"""Losses with extra mass and weights, in plain Python from their formulas: one candidate at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from models.losses import LossConfig

Negatives = Sequence[Sequence[tuple[int, float]]]


def loss_of(
    config: LossConfig,
    query: Tensor,
    items: Tensor,
    target: Sequence[int],
    negatives: Negatives,
    masses: tuple[Tensor, Tensor],
    weight: Sequence[float],
) -> Tensor:
    """The sum over positions of weight times loss.

    Args:
        config: kind, temperature, smoothing, calibration.
        query: [positions, dim].
        items: [items, dim].
        target: rank of each position's target.
        negatives: of each position (rank, times expected); all other items for the full softmax.
        masses: [positions] logarithms on the target and on the rest, minus infinity for none.
        weight: of each position.
    """
    total = torch.zeros((), dtype=torch.float64)
    for p, t in enumerate(target):
        scores = [(query[p] * item).sum() / config.temperature for item in items]
        on_target, on_rest = (mass[p] for mass in masses)
        positive = scores[t] if math.isinf(on_target.item()) else (scores[t].exp() + on_target.exp()).log()
        against = negatives[p]
        if config.kind == "full_softmax":
            against = [(rank, 1.0) for rank in range(len(items))]
        others = [(scores[rank], 1.0 / times) for rank, times in against if rank != t]
        if not math.isinf(on_rest.item()):
            others.append((on_rest, 1.0))
        if config.kind in ("full_softmax", "sampled_softmax"):
            loss = _softmax(positive, others, config.label_smoothing)
        else:
            alpha = config.negatives.count / (len(items) - 1)
            beta = 1.0 if config.kind == "bce" else alpha * (config.calibration * (1 - 1 / alpha) + 1 / alpha)
            parts = [
                (positive.sigmoid() ** beta).log(),
                *((1 / (1 + score.exp())).log() for score, _ in others),
            ]
            loss = -sum(parts) / len(parts)
        total = total + weight[p] * loss
    return total


def _softmax(positive: Tensor, others: list[tuple[Tensor, float]], smoothing: float) -> Tensor:
    """`-sum label log p`, each other candidate in the place of `share` items."""
    candidates = [(positive, 1.0), *others]
    normalizer = sum(share * score.exp() for score, share in candidates)
    shares = sum(share for _, share in candidates)
    loss = torch.zeros((), dtype=torch.float64)
    for place, (score, share) in enumerate(candidates):
        label = smoothing * share / shares + (0.0 if place else 1.0 - smoothing)
        loss = loss - label * (score.exp() / normalizer).log()
    return loss
