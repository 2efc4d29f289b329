"""The softmax kernels as one differentiable function."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.losses.kernels.softmax_kernels import gradient_kernel, loss_kernel

_BLOCK = 1024
"""Scores that a program reads at a time at most."""


class SampledSoftmax(torch.autograd.Function):
    """See `models.losses.kernels.sampled_softmax`."""

    @staticmethod
    def forward(
        ctx: Any,
        positive: Tensor,
        negative: Tensor,
        ranks: Tensor,
        target: Tensor,
        correction: Tensor | None,
    ) -> Tensor:
        negative = with_contiguous_rows(negative)
        positive, target, ranks = positive.contiguous(), target.contiguous(), ranks.contiguous()
        correction = None if correction is None else with_contiguous_rows(correction)
        losses, gaps = torch.empty_like(positive), positive.new_empty(positive.shape, dtype=torch.float32)
        ctx.save_for_backward(positive, negative, ranks, target, correction, gaps)
        if len(positive):
            arguments = _arguments(positive, negative, ranks, target, correction, gaps)
            shape = _cut(negative.shape[1])
            launch(loss_kernel, (len(positive), 1), shape, {**arguments, "losses": losses})
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        positive, negative, ranks, target, correction, gaps = ctx.saved_tensors
        dpositive, dnegative = torch.empty_like(positive), negative.new_empty(negative.shape)
        if len(positive):
            arguments = _arguments(positive, negative, ranks, target, correction, gaps)
            arguments |= {"given": given.contiguous(), "dpositive": dpositive, "dscores": dnegative}
            launch(gradient_kernel, (len(positive), 1), _cut(negative.shape[1]), arguments)
        return dpositive, dnegative, None, None, None


def _arguments(
    positive: Tensor,
    negative: Tensor,
    ranks: Tensor,
    target: Tensor,
    correction: Tensor | None,
    gaps: Tensor,
) -> dict[str, object]:
    """What both kernels are given."""
    return {
        "positive": positive, "scores": negative, "ranks": ranks, "target": target, "gaps": gaps,
        # Where there is no correction, something that can be pointed at.
        "correction": negative if correction is None else correction, "CORRECTED": correction is not None,
        "count": negative.shape[1], "score_stride": negative.stride(0), "rank_stride": _stride(ranks),
        "correction_stride": 0 if correction is None else _stride(correction),
        "BLOCK": _cut(negative.shape[1]).tile,
    }  # fmt: skip


def _stride(rows: Tensor) -> int:
    """From one position's row to the next; 0 where one row is for all."""
    return 0 if len(rows) == 1 else rows.stride(0)


def _cut(count: int) -> TileShape:
    block = min(_BLOCK, max(32, triton.next_power_of_2(count)))
    return TileShape(block, block, max(1, block // 256), 1)
