"""What else competes in a position's softmax besides items by their vectors: sums, given as logarithms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NOTHING = float("-inf")


class ExtraMass(NamedTuple):
    """Unnormalized probability that a position has beside the exponentials of its items' scores.

    Logarithms, so as logits they go with scores that are already divided by the temperature; minus infinity
    is no mass at all, and then gets no gradient. History logits are such mass (`models.history`).
    """

    on_target: Tensor
    """[positions] float32: on the item that the position predicts."""
    on_rest: Tensor
    """[positions] float32: on all other items together."""

    def take(self, positions: Tensor) -> ExtraMass:
        """Of some of the positions, by their indices."""
        return ExtraMass(self.on_target.index_select(0, positions), self.on_rest.index_select(0, positions))

    def plus(self, other: ExtraMass | None) -> ExtraMass:
        """The sum of both."""
        if other is None:
            return self
        return ExtraMass(log_add(self.on_target, other.on_target), log_add(self.on_rest, other.on_rest))


def log_add(one: Tensor, other: Tensor) -> Tensor:
    """`log(exp(one) + exp(other))`; where both are minus infinity, so it is, with gradients of zero."""
    nothing = (one == _NOTHING) & (other == _NOTHING)
    total = torch.logaddexp(one.masked_fill(nothing, 0.0), other.masked_fill(nothing, 0.0))
    return total.masked_fill(nothing, _NOTHING)


def factors(like: Tensor, mask: Tensor | None, weight: Tensor | None) -> Tensor:
    """[positions] what losses are multiplied by: their weights, 1 by default, and 0 where the mask is false.

    Args:
        like: [positions, ...] of the type and device wanted.
        mask: [positions] bool, or None: all count.
        weight: [positions], or None.
    """
    factor = like.new_ones(len(like)) if weight is None else weight.detach().to(like.dtype)
    return factor if mask is None else factor.masked_fill(~mask, 0.0)
