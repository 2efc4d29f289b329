"""Softmax over all items, in memory that does not grow with positions times items."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.losses.chunks import positions_at_a_time, refuse_second_derivative
from models.losses.extra import ExtraMass, factors


class Candidates(NamedTuple):
    """Which items compete at a position: one of few sets of them."""

    member: Tensor
    """[sets, items] bool."""
    of: Tensor
    """[positions] the set of each; its target is in it."""

    def hide(self, scores: Tensor, part: slice) -> Tensor:
        """Scores of a slice of positions, [positions, items], in place: minus infinity for other items."""
        return scores.masked_fill_(~self.member[self.of[part]], float("-inf"))


def full_softmax(
    query: Tensor,
    items: Tensor,
    target: Tensor,
    temperature: float,
    label_smoothing: float = 0.0,
    chunk: int | None = None,
    mask: Tensor | None = None,
    *,
    extra: ExtraMass | None = None,
    weight: Tensor | None = None,
    candidates: Candidates | None = None,
) -> Tensor:
    """Sum over positions of the cross-entropy of each target among all items, or among its candidates.

    Gradients are computed in the forward pass, chunk by chunk, so that each score is computed once and two
    chunks of scores at most are in memory. Computed in float32 at least, under autocast too. Can be
    differentiated once.

    Args:
        query: [positions, dim].
        items: [items, dim].
        target: [positions] rows of `items`.
        temperature: what scores are divided by.
        label_smoothing: share of the label that is spread evenly over all items; with `extra`, its mass on
            the rest is one item more, where there is any.
        chunk: positions of a chunk; by default, what suits the device.
        mask: [positions] bool, false for those that do not count; None: all do.
        extra: mass beside the items' scores: the loss is
            `log(sum_i exp s_i + exp on_target + exp on_rest) - log(exp s_+ + exp on_target)`.
        weight: [positions] factors of the losses, without gradients; None: 1.
        candidates: which items compete at each position; None: all. Without label smoothing.
    """
    if candidates is not None and label_smoothing:
        raise ValueError("labels are smoothed over all items, and not all are candidates")
    if chunk is None:
        chunk = positions_at_a_time(len(items), query.device)
    precise = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        # Scaling queries and gradients, not scores, spares passes over what is by far the largest.
        scaled, items = query.to(precise) / temperature, items.to(precise)
        if mask is not None:
            # Of queries of zeros, all gradients are zero but their own, which do not pass here.
            scaled = scaled.masked_fill(~mask[:, None], 0.0)
        if extra is None and weight is None:
            loss: Tensor = _FullSoftmax.apply(scaled, items, target, mask, chunk, candidates)
            if label_smoothing:
                # -sum(label * log p) with smoothed labels, less that without: scores are linear in items.
                apart = F.embedding(target, items) - items.mean(0)
                loss = loss + label_smoothing * (scaled * apart).sum()
            return loss
        if extra is None:
            none = scaled.new_full((len(scaled),), float("-inf"))
            extra = ExtraMass(none, none)
        factor = factors(scaled, mask, weight)
        loss = _FullSoftmaxWithExtra.apply(scaled, items, target, *extra, factor, chunk, candidates)
        if label_smoothing:
            loss = loss + label_smoothing * (factor * _apart(scaled, items, target, extra)).sum()
        return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        items: Tensor,
        target: Tensor,
        mask: Tensor | None,
        chunk: int,
        candidates: Candidates | None,
    ) -> Tensor:
        grad_query = torch.empty_like(query)
        grad_items = torch.zeros_like(items)
        loss = query.new_zeros(())
        for first in range(0, len(query), chunk):
            part = slice(first, first + chunk)
            log_odds = _scores(query, items, part, candidates).log_softmax(1)  # [chunk, items]
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
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        grad_query, grad_items = ctx.saved_tensors
        return grad_query * grad_output, grad_items * grad_output, None, None, None, None


class _FullSoftmaxWithExtra(torch.autograd.Function):
    """The same with mass beside the scores, and a factor a position. Two scalars a position get gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        items: Tensor,
        target: Tensor,
        on_target: Tensor,
        on_rest: Tensor,
        factor: Tensor,
        chunk: int,
        candidates: Candidates | None,
    ) -> Tensor:
        grad_query = torch.empty_like(query)
        grad_items = torch.zeros_like(items)
        grad_extra = [torch.empty_like(mass, dtype=query.dtype) for mass in (on_target, on_rest)]
        loss = query.new_zeros(())
        for first in range(0, len(query), chunk):
            part = slice(first, first + chunk)
            positions = torch.arange(len(query[part]), device=query.device)
            scores = _scores(query, items, part, candidates)
            score = scores[positions, target[part]]
            grad = scores.log_softmax(1)  # [chunk, items]
            of_target = grad[positions, target[part]]
            # All as against the sum over items, whose logarithm is the difference: near 0, digits count.
            apart = of_target - score
            gained, rest = on_target[part] + apart, on_rest[part] + apart
            whole = torch.logaddexp(torch.logaddexp(gained, torch.zeros_like(gained)), rest)
            right = torch.logaddexp(of_target, gained)
            loss += (factor[part] * (whole - right)).sum()
            grad = grad.sub_(whole[:, None]).exp_()
            grad[positions, target[part]] -= (of_target - right).exp()
            grad *= factor[part, None]
            grad_query[part] = grad @ items
            grad_items += grad.T @ query[part]
            grad_extra[0][part] = factor[part] * ((gained - whole).exp() - (gained - right).exp())
            grad_extra[1][part] = factor[part] * (rest - whole).exp()
        ctx.save_for_backward(grad_query, grad_items, *grad_extra)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        of_query, of_items, *of_extra = (found * grad_output for found in ctx.saved_tensors)
        return of_query, of_items, None, *of_extra, None, None, None


def _scores(query: Tensor, items: Tensor, part: slice, candidates: Candidates | None) -> Tensor:
    """[chunk, items]; minus infinity for items that are no candidates."""
    scores = F.linear(query[part], items)
    return scores if candidates is None else candidates.hide(scores, part)


def _apart(query: Tensor, items: Tensor, target: Tensor, extra: ExtraMass) -> Tensor:
    """[positions] what is predicted less the mean over all candidates, as logits: the target with its extra
    mass, the other items, and the rest of the mass where there is any."""
    score = (query * F.embedding(target, items)).sum(-1)
    right = torch.logaddexp(score, extra.on_target)
    rest = extra.on_rest.isfinite()
    total = query @ items.sum(0) - score + right + extra.on_rest.masked_fill(~rest, 0.0)
    return right - total / (len(items) + rest.to(total.dtype))
