"""Softmax over all items, of which each process scores those whose rows it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.distributed.tables import HeldItems
from models.losses.chunks import positions_at_a_time
from models.losses.extra import ExtraMass, factors

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
    *,
    extra: ExtraMass | None = None,
    weight: Tensor | None = None,
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
        label_smoothing: share of the label that is spread evenly over all items; with `extra`, its mass on
            the rest is one item more, where there is any.
        chunk: positions at a time, the same in all processes; by default, what suits the device.
        mask: [positions] bool, false for those that do not count; None: all do.
        extra: mass beside the items' scores, as `models.losses.full_softmax.full_softmax` takes it; every
            process has it, or none.
        weight: [positions] factors of the losses, without gradients; None: 1.
    """
    if chunk is None:
        chunk = positions_at_a_time(held.num_items // held.processes.count, query.device)
    if mask is not None:
        target = target.where(mask, _NOBODY)
    scaled = query / temperature
    masses = () if extra is None else extra
    factor = factors(scaled, mask, weight)
    settings = held, label_smoothing, chunk
    loss: Tensor = _ShardedFullSoftmax.apply(scaled, items, target, settings, factor, *masses)
    return loss


class _ShardedFullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        items: Tensor,
        target: Tensor,
        settings: tuple[HeldItems, float, int],
        factor: Tensor,
        *masses: Tensor,
    ) -> Tensor:
        held, smoothing, chunk = settings
        processes = held.processes
        missing = processes.max(len(query)) - len(query)
        queries = processes.all_gather(F.pad(query, (0, 0, 0, missing)))  # [count, longest, dim]
        targets = processes.all_gather(F.pad(target, (0, missing), value=_NOBODY)).flatten()
        own_scalars = torch.stack([factor, *(mass.to(query.dtype) for mass in masses)])
        # Of all processes' positions, in one row each: factor, and the masses where there are any.
        scalars = processes.all_gather(F.pad(own_scalars, (0, missing))).transpose(0, 1).flatten(1)
        places = held.place(targets.clamp(min=0)).where(targets >= 0, _NOBODY)  # [count * longest]
        asked = queries.flatten(0, 1)
        grad_queries = torch.empty_like(asked)
        grad_items = torch.zeros_like(items)
        grad_masses = torch.zeros_like(scalars[1:])
        losses = asked.new_empty(len(asked))
        for first in range(0, len(asked), chunk):
            part = slice(first, first + chunk)
            factors_here = scalars[0, part]
            extra = ExtraMass(*scalars[1:, part]) if masses else None
            losses[part], grad, *of_masses = _losses(asked[part], items, places[part], held, smoothing, extra)
            losses[part] *= factors_here
            grad *= factors_here[:, None]
            for row, of_mass in zip(grad_masses, of_masses, strict=True):
                row[part] = of_mass * factors_here
            grad_queries[part] = grad @ items
            grad_items += grad.T @ asked[part]
        own = losses.view(queries.shape[:2])[processes.rank]
        grad_query = processes.reduce_scatter(grad_queries.view_as(queries))[: len(query)]
        # Every process has found those of all positions.
        grad_own = grad_masses.view(len(masses), *queries.shape[:2])[:, processes.rank, : len(query)]
        ctx.save_for_backward(grad_query, grad_items, *grad_own)
        return own.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        of_query, of_items, *of_masses = (found * grad_output for found in ctx.saved_tensors)
        return of_query, of_items, None, None, None, *of_masses


def _losses(
    query: Tensor,
    items: Tensor,
    places: Tensor,
    held: HeldItems,
    smoothing: float,
    extra: ExtraMass | None,
) -> tuple[Tensor, ...]:
    """Losses of some positions, [positions], and their gradients for scores of items held here, and masses.

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
    if extra is not None:
        found = _with_extra(top + total.log(), of_target, mean * num_items, extra, num_items, smoothing)
        grad = odds.mul_((top - found.whole).exp()[:, None])
        if len(items):
            grad[row, place] -= found.label * here
        return found.loss, grad.sub_(found.each[:, None]), found.grad_target, found.grad_rest
    loss = top + total.log() - (1.0 - smoothing) * of_target - smoothing * mean
    grad = odds.div_(total[:, None])
    if len(items):
        grad[row, place] -= (1.0 - smoothing) * here
    return loss, grad.sub_(smoothing / num_items)


class _WithExtra(NamedTuple):
    """Of some positions, [positions] each; the gradient for score i is `exp(s_i - whole) - each`, for the
    target's `label` less."""

    loss: Tensor
    whole: Tensor
    label: Tensor
    each: Tensor
    grad_target: Tensor
    grad_rest: Tensor


def _with_extra(
    over_items: Tensor, score: Tensor, scores: Tensor, extra: ExtraMass, num_items: int, smoothing: float
) -> _WithExtra:
    """The loss with mass beside the scores, `whole - (1 - e) * right - e * mean`.

    `whole` is the logarithm of all mass, `right` that of the target's, and the mean is over the target, the
    other items, and the rest of the extra mass where there is any.

    Args:
        over_items: [positions] logarithm of the sum over all items.
        score: [positions] of the target.
        scores: [positions] sum of the scores of all items.
        extra: mass beside them.
        num_items: known items.
        smoothing: e.
    """
    gained, rest = extra
    whole = torch.logaddexp(torch.logaddexp(over_items, gained), rest)
    right = torch.logaddexp(score, gained)
    by_score, by_mass = (score - right).exp(), (gained - right).exp()
    some = rest.isfinite()
    each = smoothing / (num_items + some.to(rest.dtype))
    candidates = scores - score + right + rest.masked_fill(~some, 0.0)
    return _WithExtra(
        loss=whole - (1.0 - smoothing) * right - each * candidates,
        whole=whole,
        label=(1.0 - smoothing) * by_score + each * (by_score - 1.0),
        each=each,
        grad_target=(gained - whole).exp() - (1.0 - smoothing + each) * by_mass,
        grad_rest=(rest - whole).exp() - each * some,
    )
