"""Softmax over all items, in memory that does not grow with positions times items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.losses.chunks import positions_at_a_time, refuse_second_derivative


def full_softmax(
    query: Tensor,
    items: Tensor,
    target: Tensor,
    temperature: float,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Sum over positions of the cross-entropy of each target among all items.

    Gradients are computed in the forward pass, chunk by chunk, so that each score is computed once and two
    chunks of scores at most are in memory. Computed in float32 at least, under autocast too. Can be
    differentiated once.

    Args:
        query: [positions, dim].
        items: [items, dim].
        target: [positions] rows of `items`.
        temperature: what scores are divided by.
        label_smoothing: share of the label that is spread evenly over all items.
        chunk: positions of a chunk; by default, what suits the device.
        mask: [positions] bool, false for those that do not count; None: all do.
    """
    if chunk is None:
        chunk = positions_at_a_time(len(items), query.device)
    precise = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        # Scaling queries and gradients, not scores, spares passes over what is by far the largest.
        scaled, items = query.to(precise) / temperature, items.to(precise)
        if mask is not None:
            # Of queries of zeros, all gradients are zero but their own, which do not pass here.
            scaled = scaled.masked_fill(~mask[:, None], 0.0)
        loss: Tensor = _FullSoftmax.apply(scaled, items, target, mask, chunk)
        if label_smoothing:
            # -sum(label * log p) with smoothed labels, less that without: scores are linear in items.
            apart = F.embedding(target, items) - items.mean(0)
            loss = loss + label_smoothing * (scaled * apart).sum()
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, items: Tensor, target: Tensor, mask: Tensor | None, chunk: int
    ) -> Tensor:
        grad_query = torch.empty_like(query)
        grad_items = torch.zeros_like(items)
        loss = query.new_zeros(())
        for first in range(0, len(query), chunk):
            part = slice(first, first + chunk)
            log_odds = F.linear(query[part], items).log_softmax(1)  # [chunk, items]
            positions = torch.arange(len(log_odds), device=query.device)
            of_target = log_odds[positions, target[part]]
            loss -= (of_target if mask is None else of_target.masked_fill(~mask[part], 0.0)).sum()
            grad = log_odds.exp_()
            grad[positions, target[part]] -= 1.0
            grad_query[part] = grad @ items
            grad_items += grad.T @ query[part]
        ctx.save_for_backward(grad_query, grad_items)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        refuse_second_derivative()
        grad_query, grad_items = ctx.saved_tensors
        return grad_query * grad_output, grad_items * grad_output, None, None, None
