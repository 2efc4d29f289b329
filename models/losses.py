"""Retrieval losses over item scores: full softmax and sampled softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from behavior.config import Config
from models.negatives import NegativeSampler, NegativesConfig

ItemVectors = Callable[[torch.Tensor | None], torch.Tensor]
"""Vectors of known items: of the given ranks (id minus first known id; any shape), or of all of them."""

# Scores held at a time by the full softmax: small enough for a CPU's cache, large enough for a GPU.
_CHUNK_SCORES = {"cpu": 1 << 21, "cuda": 1 << 27}


class LossConfig(Config):
    """What is minimised."""

    kind: Literal["sampled_softmax", "full_softmax"] = Field(
        "sampled_softmax", description="softmax over the target and some negatives, or over every known item"
    )
    temperature: float = Field(0.05, gt=0.0, description="what the cosine of query and item is divided by")
    loss_on: Literal["all", "targets"] = Field(
        "all", description="predict every next event, or only those of a target behavior"
    )
    negatives: NegativesConfig = Field(NegativesConfig(), description="for the sampled softmax")


class RetrievalLoss(torch.nn.Module):
    """Mean loss over positions, each of which predicts one known item.

    Args:
        config: kind and temperature.
        sampler: where negatives come from.
    """

    def __init__(self, config: LossConfig, sampler: NegativeSampler) -> None:
        super().__init__()
        self.config = config
        self.sampler = sampler

    def forward(self, query: torch.Tensor, target: torch.Tensor, items: ItemVectors) -> torch.Tensor:
        """The loss, a scalar.

        Args:
            query: [positions, dim].
            target: [positions] item ranks (id minus the first known id).
            items: gives item vectors.
        """
        config = self.config
        if config.kind == "full_softmax":
            return full_softmax(query, items(None), target, config.temperature)
        count = config.negatives.count
        if config.negatives.sharing == "batch":
            negatives = self.sampler.draw(count)  # [count]
            scores = query @ items(negatives).T  # [positions, count]
        else:
            negatives = self.sampler.draw(len(target), count)  # [positions, count]
            scores = scores_of(query, negatives, items, self.sampler.num_items)
        positive = (query * items(target)).sum(-1)
        correction = None
        if config.negatives.logq:
            correction = self.sampler.log_odds[negatives] + math.log(count)
        return sampled_softmax(positive, scores, negatives == target[:, None], config.temperature, correction)


def scores_of(query: torch.Tensor, ranks: torch.Tensor, items: ItemVectors, num_items: int) -> torch.Tensor:
    """Dot products of each query with its own items.

    Args:
        query: [positions, dim].
        ranks: [positions, count] item ranks.
        items: gives item vectors.
        num_items: known items.

    Returns:
        [positions, count].
    """
    if num_items <= ranks.shape[1] * query.shape[1]:
        # Fewer numbers move when each query meets all items and the drawn scores are picked out.
        return (query @ items(None).T).gather(1, ranks)
    return torch.einsum("pd,pcd->pc", query, items(ranks))


def sampled_softmax(
    positive: torch.Tensor,
    negative: torch.Tensor,
    collides: torch.Tensor,
    temperature: float,
    correction: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of each positive among its negatives.

    With `correction = log(count * q)`, q the odds of drawing each negative, the sum over negatives estimates
    that over all other items without bias (importance sampling: Bengio and Senecal, 2008). The positive was
    not drawn, so it takes no correction.

    Args:
        positive: [positions] scores.
        negative: [positions, count] scores.
        collides: [positions, count] true where a negative is the positive itself; it does not count.
        temperature: what scores are divided by.
        correction: broadcast to [positions, count]; taken off the negatives' logits.
    """
    logits = negative.float() / temperature
    if correction is not None:
        logits = logits - correction
    logits = logits.masked_fill(collides, float("-inf"))
    chosen = positive.float() / temperature
    return (torch.cat([chosen[:, None], logits], dim=1).logsumexp(1) - chosen).mean()


def full_softmax(
    query: torch.Tensor,
    items: torch.Tensor,
    target: torch.Tensor,
    temperature: float,
    chunk: int | None = None,
) -> torch.Tensor:
    """Mean cross-entropy of each target among all items, without ever holding all scores.

    Gradients are worked out in the forward pass, chunk by chunk, so that each score is computed once.

    Args:
        query: [positions, dim].
        items: [items, dim].
        target: [positions] rows of `items`.
        temperature: what scores are divided by.
        chunk: positions at a time; by default, what suits the device.
    """
    if chunk is None:
        chunk = max(1, _CHUNK_SCORES.get(query.device.type, 1 << 24) // len(items))
    loss: torch.Tensor = _FullSoftmax.apply(query, items, target, temperature, chunk)
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        items: torch.Tensor,
        target: torch.Tensor,
        temperature: float,
        chunk: int,
    ) -> torch.Tensor:
        # Scaling queries and gradients, not scores, spares passes over what is by far the largest.
        scaled = query / temperature
        grad_query = torch.empty_like(query)
        grad_items = torch.zeros_like(items)
        loss = torch.zeros((), dtype=torch.promote_types(query.dtype, torch.float32), device=query.device)
        for first in range(0, len(query), chunk):
            part = slice(first, first + chunk)
            logits = F.linear(scaled[part], items).to(loss.dtype)  # [chunk, items]
            log_odds = logits.log_softmax(1)
            positions = torch.arange(len(logits), device=query.device)
            loss -= log_odds[positions, target[part]].sum()
            grad = log_odds.exp_()
            grad[positions, target[part]] -= 1.0
            grad = grad.to(query.dtype)
            grad_query[part] = grad @ items
            grad_items += grad.T @ scaled[part]
        ctx.save_for_backward(grad_query / (temperature * len(query)), grad_items / len(query))
        return loss / len(query)

    @staticmethod
    def backward(ctx: Any, *grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        grad_query, grad_items = ctx.saved_tensors
        scale = grad_output[0]
        return grad_query * scale, grad_items * scale, None, None, None
