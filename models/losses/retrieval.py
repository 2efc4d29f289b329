"""The loss of a batch of queries: what is drawn against each target, and what is made of the scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from behavior.errors import UserError
from models.losses.chunks import positions_at_a_time, sum_over_chunks
from models.losses.config import LossConfig
from models.losses.drawn import OwnNegatives, SharedNegatives
from models.losses.formulas import binary_cross_entropy, gbce_power, sampled_softmax
from models.losses.full_softmax import full_softmax
from models.negatives import NegativeSampler

ItemVectors = Callable[[Tensor | None], Tensor]
"""Vectors of known items: of the given ranks (id minus first known id; any shape), or of all of them."""


class RetrievalLoss(nn.Module):
    """Mean loss over positions, each of which predicts one known item.

    Args:
        config: what is minimised.
        sampler: where negatives come from.

    Raises:
        UserError: gBCE with as many negatives as there are items, or more.
    """

    def __init__(self, config: LossConfig, sampler: NegativeSampler) -> None:
        super().__init__()
        self.config = config
        self.sampler = sampler
        self.power = 1.0
        if config.kind == "gbce":
            count, num_items = config.negatives.count, sampler.num_items
            if count >= num_items:
                raise UserError(
                    f"gbce needs fewer negatives than there are items, and there are {num_items}",
                    where=f"loss.negatives.count = {count}",
                    fix="draw fewer, or use loss.kind=full_softmax",
                )
            self.power = gbce_power(count, num_items, config.calibration)

    def forward(
        self,
        query: Tensor,
        target: Tensor,
        items: ItemVectors,
        denominator: Tensor | float | None = None,
    ) -> Tensor:
        """The loss, a scalar; zero where there are no positions.

        Args:
            query: [positions, dim].
            target: [positions] item ranks (id minus the first known id).
            items: gives item vectors.
            denominator: what the sum over positions is divided by; the number of positions by default.
        """
        # Scores over a small temperature need more digits than bfloat16 has; so do the vectors.
        with torch.autocast(query.device.type, enabled=False):
            if self.config.kind == "full_softmax":
                total = full_softmax(
                    query, items(None), target, self.config.temperature, self.config.label_smoothing
                )
            else:
                total = self._sampled(query, target, items)
            return total / (max(len(target), 1) if denominator is None else denominator)

    def _sampled(self, query: Tensor, target: Tensor, items: ItemVectors) -> Tensor:
        taken, sources = self._draw(target, items)
        query = query / self.config.temperature
        positive = (query * taken).sum(-1)

        def losses(part: slice, query: Tensor, positive: Tensor, *vectors: Tensor) -> Tensor:
            ranks = [source.of(part) for source in sources]
            scores = [
                source.scores(part, query, table) for source, table in zip(sources, vectors, strict=True)
            ]
            collides = [drawn == target[part, None] for drawn in ranks]
            correction = None
            if self.config.negatives.logq:
                found = [self._log_expected(drawn, len(target)) for drawn in ranks]
                correction = _side_by_side(
                    [log.expand_as(score) for log, score in zip(found, scores, strict=True)]
                )
            return self._formula(positive, _side_by_side(scores), _side_by_side(collides), correction)

        width = sum(source.ranks.shape[-1] for source in sources)
        chunk = positions_at_a_time(width, query.device)
        return sum_over_chunks(losses, (query, positive), [source.vectors for source in sources], chunk)

    def _formula(
        self, positive: Tensor, negative: Tensor, collides: Tensor, correction: Tensor | None
    ) -> Tensor:
        if self.config.kind == "sampled_softmax":
            return sampled_softmax(positive, negative, collides, correction, self.config.label_smoothing)
        return binary_cross_entropy(positive, negative, collides, self.power)

    def _draw(
        self, target: Tensor, items: ItemVectors
    ) -> tuple[Tensor, list[SharedNegatives | OwnNegatives]]:
        """Vectors of the targets, [positions, dim], and their negatives."""
        config, sampler = self.config.negatives, self.sampler
        sources: list[SharedNegatives | OwnNegatives] = []
        if config.source == "in_batch":
            taken = items(target)
        elif config.sharing == "batch":
            taken = items(target)
            ranks = sampler.draw(config.count)
            sources.append(SharedNegatives(ranks, items(ranks)))
        else:
            ranks = sampler.draw(len(target), config.count)
            if ranks.numel() >= sampler.num_items:
                table, rows = items(None), ranks
                taken = F.embedding(target, table)
            else:
                table, rows = items(ranks.flatten()), torch.arange(ranks.numel(), device=ranks.device)
                taken = items(target)
            sources.append(OwnNegatives(ranks, rows.view_as(ranks), table))
        if config.source != "catalog":
            sources.append(SharedNegatives(target, taken))
        return taken, sources

    def _log_expected(self, ranks: Tensor, positions: int) -> Tensor:
        config = self.config.negatives
        return self.sampler.log_expected(
            ranks,
            drawn=0 if config.source == "in_batch" else config.count,
            # A position is no negative of its own.
            in_batch=0 if config.source == "catalog" else max(positions - 1, 1),
        )


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
