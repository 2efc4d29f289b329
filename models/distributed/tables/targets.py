"""One look-up for the items of a batch and for its targets, most of which are the items that come next."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class TargetPlaces(NamedTuple):
    """Where the vectors of targets are among those of a batch's items and of some others, end to end."""

    place: Tensor
    """[positions] int64; each place at most once, but for positions that do not count."""
    others: Tensor
    """[others] int64 ids of the targets that are not the item of the next event."""


def places_of_targets(item: Tensor, positions: Tensor, target: Tensor) -> TargetPlaces:
    """Places of targets: most are the item of the next event, and the rest is put behind all events.

    Args:
        item: [events] ids.
        positions: [positions] events, each once.
        target: [positions] ids.
    """
    following = positions + 1
    elsewhere = item[following.clamp(max=len(item) - 1)] != target
    elsewhere |= following >= len(item)
    behind = len(item) - 1 + elsewhere.cumsum(0)
    return TargetPlaces(torch.where(elsewhere, behind, following), target[elsewhere])


class InputsAndTargets(torch.autograd.Function):
    """Divides what was looked up at once: vectors of items, and those of targets by their places.

    Gradients are added up in a fixed order, where no place is asked for twice by what has a gradient.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(place)
        ctx.rows, ctx.count = len(vectors), count
        return vectors[:count].clone(), vectors.index_select(0, place)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, inputs: Tensor, targets: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        gradient = inputs.new_empty(ctx.rows, inputs.shape[1])
        gradient[: ctx.count] = inputs
        gradient[ctx.count :] = 0.0
        return gradient.index_add_(0, place, targets), None, None
