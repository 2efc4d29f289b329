"""Sums of losses over chunks of positions, so that not all scores are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Scores held at a time: few enough for a CPU's cache, enough to keep a GPU busy.
_CHUNK_SCORES = {"cpu": 1 << 21, "cuda": 1 << 27}


def positions_at_a_time(scores: int, device: torch.device) -> int:
    """Size of a chunk of positions that have so many scores each."""
    return max(1, _CHUNK_SCORES.get(device.type, 1 << 24) // max(1, scores))


@torch.compiler.disable
def sum_over_chunks(
    losses: Callable[..., Tensor], rows: Sequence[Tensor], whole: Sequence[Tensor], chunk: int
) -> Tensor:
    """Sum of `losses(part, *rows[part], *whole)` over all parts, a scalar.

    Gradients are computed along with the losses, in the forward pass, so that nothing is computed twice and
    only one chunk is in memory. Can be differentiated once.

    Args:
        losses: maps a slice of positions, the rows of that slice, and all of `whole` to [positions] losses.
        rows: tensors with a row a position.
        whole: tensors that all positions use.
        chunk: positions of a chunk.
    """
    total: Tensor = _SumOverChunks.apply(losses, len(rows), chunk, *rows, *whole)
    return total


def refuse_second_derivative() -> None:
    """To be called by a backward pass whose gradients were computed in the forward pass, as constants.

    Raises:
        RuntimeError: the gradients are to be differentiated in turn.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the loss computes its gradients along with its value, and cannot be differentiated twice: "
            "create_graph must be false"
        )


class _SumOverChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, losses: Callable[..., Tensor], num_rows: int, chunk: int, *tensors: Tensor
    ) -> Tensor:
        wanted = [index for index, tensor in enumerate(tensors) if tensor.requires_grad]
        gradients: dict[int, Tensor] = {}
        if not 0 < len(tensors[0]) <= chunk:
            gradients = {index: torch.zeros_like(tensors[index]) for index in wanted}
        whole = [_leaf(tensor) for tensor in tensors[num_rows:]]
        total = tensors[0].new_zeros(())
        for first in range(0, len(tensors[0]), chunk):
            part = slice(first, first + chunk)
            leaves = [*(_leaf(tensor[part]) for tensor in tensors[:num_rows]), *whole]
            with torch.enable_grad():
                value = losses(part, *leaves).sum()
            total += value.detach()
            if not wanted:
                continue
            found = torch.autograd.grad(value, [leaves[index] for index in wanted])
            if not gradients:  # one part is all
                gradients = dict(zip(wanted, found, strict=True))
                break
            for index, gradient in zip(wanted, found, strict=True):
                target = gradients[index]
                (target[part] if index < num_rows else target).add_(gradient)
        ctx.save_for_backward(*gradients.values())
        ctx.wanted = wanted
        ctx.num_tensors = len(tensors)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        result: list[Tensor | None] = [None] * ctx.num_tensors
        for index, gradient in zip(ctx.wanted, ctx.saved_tensors, strict=True):
            result[index] = gradient * grad_output
        return None, None, None, *result


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)
