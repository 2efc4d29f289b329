"""The losses of single positions, given the scores of the target and of its negatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.losses.kinds import LOSSES, LossKind


def sampled_softmax(
    positive: Tensor,
    negative: Tensor,
    collides: Tensor,
    correction: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of each positive among its negatives.

    With `correction` the logarithm of how often each negative is expected to be drawn, the sum over negatives
    estimates that over all other items without bias (importance sampling: Bengio and Senecal, 2008). The
    positive was not drawn, so it takes no correction. Smoothed labels too then estimate the full softmax's.

    Args:
        positive: [positions] scores, divided by the temperature.
        negative: [positions, count] scores, divided by the temperature.
        collides: [positions, count] true where a negative does not count, being the positive itself.
        correction: broadcast to [positions, count]; taken off the negatives' scores.
        label_smoothing: share of the label that is spread evenly over the candidates, or with `correction`
            over all items.

    Returns:
        [positions].
    """
    logits = negative if correction is None else negative - correction
    # Not infinity, of which a position whose negatives all collide would get gradients that are no numbers.
    logits = logits.masked_fill(collides, torch.finfo(logits.dtype).min)
    losses = -F.logsigmoid(positive - logits.logsumexp(1))
    if label_smoothing:
        weight = torch.ones_like(negative) if correction is None else (-correction).exp().expand_as(negative)
        weight = weight.masked_fill(collides, 0.0)
        mean = (positive + (weight * negative).sum(1)) / (1.0 + weight.sum(1))
        losses = losses + label_smoothing * (positive - mean)
    return losses


def binary_cross_entropy(positive: Tensor, negative: Tensor, collides: Tensor, power: float = 1.0) -> Tensor:
    """Mean of `-power * log sigmoid(positive)` and, of each negative, `-log(1 - sigmoid(negative))`.

    SASRec's loss (arXiv 1808.09781), which takes the sum of one negative and the positive, twice the mean;
    gBCE (gSASRec, arXiv 2308.07192), where the power is below one.

    Args:
        positive: [positions] scores, divided by the temperature.
        negative: [positions, count] scores, divided by the temperature.
        collides: [positions, count] true where a negative does not count, being the positive itself.
        power: what the probability of the positive is raised to.

    Returns:
        [positions].
    """
    against = F.logsigmoid(-negative).masked_fill(collides, 0.0).sum(1)
    return -(power * F.logsigmoid(positive) + against) / (collides.logical_not().sum(1) + 1)


def gbce_power(count: int, num_items: int, calibration: float) -> float:
    """The power of gBCE: `beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)` (gSASRec, arXiv 2308.07192).

    Args:
        count: negatives of a position.
        num_items: known items; `alpha = count / (num_items - 1)` is the share of them that is drawn.
        calibration: t; 0 gives 1, the plain loss, and 1 gives alpha.
    """
    alpha = count / (num_items - 1)
    return calibration * (alpha - 1.0) + 1.0


@dataclass(frozen=True)
class Scored:
    """Scores of some positions and their negatives, and the settings of the formula over them."""

    positive: Tensor
    """[positions] scores of the targets, divided by the temperature."""
    negative: Tensor
    """[positions, count] scores of the negatives, divided by the temperature."""
    collides: Tensor
    """[positions, count] true where a negative does not count, being the positive itself."""
    correction: Tensor | None = None
    """logQ correction, broadcast to [positions, count]; None: not asked for."""
    label_smoothing: float = 0.0
    power: float = 1.0
    """gBCE's beta."""

    def with_candidate(self, score: Tensor) -> Scored:
        """With one more negative, [positions], that was not drawn; where minus infinity, there is none."""
        missing = score == float("-inf")
        correction = self.correction
        if correction is not None:
            correction = F.pad(correction.expand_as(self.negative), (0, 1))
        # A number, since whatever a formula makes of it may be multiplied by zero.
        negative = torch.cat([self.negative, score.masked_fill(missing, 0.0)[:, None]], 1)
        collides = torch.cat([self.collides, missing[:, None]], 1)
        return replace(self, negative=negative, collides=collides, correction=correction)


Formula = Callable[[Scored], Tensor]
"""The loss of each position, [positions]."""


def _softmax(scored: Scored) -> Tensor:
    return sampled_softmax(
        scored.positive, scored.negative, scored.collides, scored.correction, scored.label_smoothing
    )


def _cross_entropy(scored: Scored) -> Tensor:
    return binary_cross_entropy(scored.positive, scored.negative, scored.collides, scored.power)


FORMULAS: dict[str, Formula] = {"sampled_softmax": _softmax, "bce": _cross_entropy, "gbce": _cross_entropy}
"""Losses with negative sampling, by the name in `loss.kind`."""


def register_loss(name: str, formula: Formula, description: str = "", *, softmax: bool = False) -> Formula:
    """Make a loss with negative sampling known to `loss.kind`, in place of one of the same name.

    Every process that reads its settings must do so first; see `models.tasks.registry.register_task`.

    Args:
        name: in `loss.kind`.
        formula: the loss of each position.
        description: in a few words.
        softmax: whether it takes label smoothing and the logQ correction.
    """
    FORMULAS[name] = formula
    LOSSES[name] = LossKind(description, softmax)
    return formula
