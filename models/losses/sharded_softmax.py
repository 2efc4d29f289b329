"""Softmax over all items, of which each process scores those whose rows it holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.distributed.tables import HeldItems
from models.losses.chunks import positions_at_a_time

_NOBODY = -1
"""Target of a position that does not count."""


def sharded_full_softmax(
    query: Tensor,
    items: Tensor,
    target: Tensor,
    held: HeldItems,
    temperature: float,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Sum over this process's positions of the cross-entropy of each target among the items of all processes.

    Vocabulary-parallel cross-entropy, as in Megatron-LM (arXiv 1909.08053, section 3): every process scores
    the positions of all of them with its own items; maxima, sums and the targets' scores are then reduced, a
    vector of positions each. Collective, in the forward pass alone, where gradients are computed, too. The
    gradient of `items` is that of the losses of all processes. Can be differentiated once.

    Args:
        query: [positions, dim], of a length of this process's own.
        items: [items held here, dim].
        target: [positions] item ranks, of items held anywhere.
        held: which of the known items this process holds.
        temperature: what scores are divided by.
        label_smoothing: share of the label that is spread evenly over all items.
        chunk: positions at a time, the same in all processes; by default, what suits the device.
        mask: [positions] bool, false for those that do not count; None: all do.
    """
    if chunk is None:
        chunk = positions_at_a_time(held.num_items // held.processes.count, query.device)
    if mask is not None:
        target = target.where(mask, _NOBODY)
    loss: Tensor = _ShardedFullSoftmax.apply(query / temperature, items, target, held, label_smoothing, chunk)
    return loss


class _ShardedFullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        items: Tensor,
        target: Tensor,
        held: HeldItems,
        smoothing: float,
        chunk: int,
    ) -> Tensor:
        processes = held.processes
        missing = processes.max(len(query)) - len(query)
        queries = processes.all_gather(F.pad(query, (0, 0, 0, missing)))  # [count, longest, dim]
        targets = processes.all_gather(F.pad(target, (0, missing), value=_NOBODY)).flatten()
        places = held.place(targets.clamp(min=0)).where(targets >= 0, _NOBODY)  # [count * longest]
        asked = queries.flatten(0, 1)
        grad_queries = torch.empty_like(asked)
        grad_items = torch.zeros_like(items)
        losses = asked.new_empty(len(asked))
        for first in range(0, len(asked), chunk):
            part = slice(first, first + chunk)
            counts = (targets[part] >= 0).to(asked.dtype)
            losses[part], grad = _losses(asked[part], items, places[part], held, smoothing)
            losses[part] *= counts
            grad *= counts[:, None]
            grad_queries[part] = grad @ items
            grad_items += grad.T @ asked[part]
        own = losses.view(queries.shape[:2])[processes.rank]
        grad_query = processes.reduce_scatter(grad_queries.view_as(queries))[: len(query)]
        ctx.save_for_backward(grad_query, grad_items)
        return own.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad_query, grad_items = ctx.saved_tensors
        return grad_query * grad_output, grad_items * grad_output, None, None, None, None


def _losses(
    query: Tensor, items: Tensor, places: Tensor, held: HeldItems, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Losses of some positions, [positions], and their gradients for scores of items held here.

    With labels `y`, the loss is `log sum exp(score) - sum y * score`, and its gradient `p - y`, of shape
    [positions, items].
    """
    processes, num_items = held.processes, held.num_items
    here = (places >= 0).to(query.dtype)
    row = torch.arange(len(query), device=query.device)
    place = places.clamp(min=0)
    scores = query @ items.T
    # A process may hold no item at all.
    top = processes.all_reduce(F.pad(scores, (0, 1), value=float("-inf")).amax(1), "max")
    of_target = scores[row, place] * here if len(items) else torch.zeros_like(here)
    mean = scores.sum(1) / num_items
    odds = scores.sub_(top[:, None]).exp_()
    total, of_target, mean = processes.all_reduce(torch.stack([odds.sum(1), of_target, mean]))
    loss = top + total.log() - (1.0 - smoothing) * of_target - smoothing * mean
    grad = odds.div_(total[:, None])
    if len(items):
        grad[row, place] -= (1.0 - smoothing) * here
    return loss, grad.sub_(smoothing / num_items)
