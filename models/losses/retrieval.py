"""The loss of a batch of queries: negative sampling, scores, and a formula over them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.distributed.tables import HeldItems
from models.losses import kernels
from models.losses.chunks import positions_at_a_time, sum_over_chunks
from models.losses.config import LossConfig
from models.losses.drawn import Negatives
from models.losses.extra import ExtraMass, factors
from models.losses.formulas import FORMULAS, Scored, gbce_power
from models.losses.full_softmax import Candidates, full_softmax
from models.losses.negatives import NegativeSampler
from models.losses.sharded_softmax import sharded_full_softmax
from models.losses.shared import shared_losses
from models.losses.sources import ItemVectors, draw_sources


class RetrievalLoss(nn.Module):
    """Mean loss over positions, each of which predicts one known item.

    Args:
        config: settings.
        sampler: of negatives.
        held: which of the known items this process holds; all by default.
        alike: whether one item always has the same vector within a step; not where ids are dropped at random.

    Raises:
        UserError: gBCE with as many negatives as there are items, or more; or negatives within a domain where
            items are divided among processes.
    """

    def __init__(
        self,
        config: LossConfig,
        sampler: NegativeSampler,
        held: HeldItems | None = None,
        *,
        alike: bool = True,
    ) -> None:
        super().__init__()
        self.alike = alike
        self.config = config
        self.sampler = sampler
        self.held = held or HeldItems.whole(sampler.num_items)
        self.power = 1.0
        if config.within_domain:
            _check_domains(sampler, self.held)
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
        mask: Tensor | None = None,
        *,
        extra: ExtraMass | None = None,
        weight: Tensor | None = None,
        domain: Tensor | None = None,
    ) -> Tensor:
        """The loss, a scalar; zero where there are no positions.

        With extra mass the target's score `s_+` becomes `log(exp s_+ + exp on_target)`, and `on_rest` is the
        score of one more candidate, which was not drawn and takes no logQ correction; where it is minus
        infinity, there is none.

        With a mask, shapes do not tell how many positions there are. Those that it leaves out add nothing to
        the loss and have no gradients, and their targets are nobody's negatives.

        Args:
            query: [positions, dim].
            target: [positions] item ranks (id minus the first known id).
            items: gives item vectors.
            denominator: what the sum over positions is divided by; the number of positions by default.
            mask: [positions] bool, false for those that do not count; None: all do.
            extra: mass beside the items' scores, of every position; None: there is none.
            weight: [positions] factors of the losses of positions, without gradients; None: 1. The default
                denominator does not depend on them.
            domain: [positions] domain ids of what is predicted, for negatives within the domain.
        """
        mixed = torch.is_autocast_enabled(query.device.type)
        asked = _Asked(query, target, mask, extra, weight, domain, mixed)
        # Scores over a small temperature need more digits than bfloat16 has; so do the vectors.
        with torch.autocast(query.device.type, enabled=False):
            total = (self._full if self.config.kind == "full_softmax" else self._sampled)(asked, items)
            return total / (_at_least_one(target, mask) if denominator is None else denominator)

    def _full(self, asked: _Asked, items: ItemVectors) -> Tensor:
        query, target, mask, extra, weight, domain, _ = asked
        held, table = self.held, items(None)
        scale = self.config.temperature, self.config.label_smoothing
        if held.is_divided:
            return sharded_full_softmax(
                query, table, target, held, *scale, mask=mask, extra=extra, weight=weight
            )
        some = None if domain is None else Candidates(self.sampler.member, domain)
        return full_softmax(
            query, table, target, *scale, mask=mask, extra=extra, weight=weight, candidates=some
        )

    def _sampled(self, asked: _Asked, items: ItemVectors) -> Tensor:
        query, target, mask, extra, weight, domain, mixed = asked
        taken, sources = draw_sources(
            self.config.negatives, self.sampler, self.held, items, target, mask, domain
        )
        others = _at_least_one(target, mask, less=1)
        if mixed:  # products are of half precision then
            log_expected = partial(self._log_expected, others=others, domain=None)
            found = shared_losses(
                self.config, query, taken, target, sources, log_expected, alike=self.alike, extra=extra
            )
            if found is not None:
                return (found * factors(found, mask, weight)).sum()
        query = query / self.config.temperature
        positive = (query * taken).sum(-1)
        rows = [query, positive]
        if extra is not None:
            rows = [query, torch.logaddexp(positive, extra.on_target), extra.on_rest]

        def losses(part: slice, query: Tensor, positive: Tensor, *more: Tensor) -> Tensor:
            rest, vectors = (None, more) if extra is None else (more[0], more[1:])
            scores = [
                source.scores(part, query, table) for source, table in zip(sources, vectors, strict=True)
            ]
            correction = None
            if self.config.negatives.logq:
                within = None if domain is None else domain[part, None]
                logs = [self._log_expected(source.of(part), others, within) for source in sources]
                correction = _side_by_side(
                    [log.expand_as(score) for log, score in zip(logs, scores, strict=True)]
                )
            found = _Found(positive, _side_by_side(scores), correction, rest)
            values = self._formula(part, target, sources, found)
            if weight is not None:
                values = values * weight[part].detach()
            return values if mask is None else values.masked_fill(~mask[part], 0.0)

        width = sum(source.width for source in sources)
        chunk = positions_at_a_time(width, query.device)
        return sum_over_chunks(losses, rows, [source.vectors for source in sources], chunk)

    def _formula(
        self,
        part: slice,
        target: Tensor,
        sources: list[Negatives],
        found: _Found,
    ) -> Tensor:
        """[positions of the part], of the scores of all sources."""
        positive, negative, correction, rest = found
        kind, smoothing = self.config.kind, self.config.label_smoothing
        if kind == "sampled_softmax" and not smoothing and len(sources) == 1 and sources[0].hidden is None:
            ranks, mask = sources[0].of(part), sources[0].mask
            if kernels.fits(ranks, negative):
                if mask is not None:  # of what does not count, nothing is left
                    own = mask.new_zeros((1, len(mask)), dtype=negative.dtype)
                    correction = (own if correction is None else correction[:1]).masked_fill(~mask, torch.inf)
                losses = kernels.sampled_softmax(positive, negative, ranks, target[part], correction)
                # log(1 + negatives + rest), all over the positive.
                return losses if rest is None else torch.logaddexp(losses, rest - positive)
        excluded = _side_by_side([source.excluded(part, target) for source in sources])
        scored = Scored(positive, negative, excluded, correction, smoothing, self.power)
        return FORMULAS[kind](scored if rest is None else scored.with_candidate(rest))

    def _log_expected(self, ranks: Tensor, others: Tensor | int, domain: Tensor | None) -> Tensor:
        config = self.config.negatives
        return self.sampler.log_expected(
            ranks,
            drawn=0 if config.source == "in_batch" else config.count,
            # A position is no negative of its own.
            in_batch=0 if config.source == "catalog" else others,
            domain=domain,
        )


class _Asked(NamedTuple):
    """The positions of a call, as `RetrievalLoss.forward` takes them."""

    query: Tensor
    target: Tensor
    mask: Tensor | None
    extra: ExtraMass | None
    weight: Tensor | None
    domain: Tensor | None
    mixed: bool
    """Whether this is within mixed precision."""


class _Found(NamedTuple):
    """Scores of a part of the positions, divided by the temperature."""

    positive: Tensor  # [positions]
    negative: Tensor  # [positions, count] of all sources
    correction: Tensor | None  # broadcast to [positions, count]
    rest: Tensor | None  # [positions] of one more candidate


def _check_domains(sampler: NegativeSampler, held: HeldItems) -> None:
    if held.is_divided:
        raise UserError(
            "negatives within a domain need the items of all domains on every device, and items are divided",
            where="loss.negatives.domain = within",
            fix="set train.item_table=replicated, or loss.negatives.domain=across",
        )
    if not sampler.num_domains:
        raise ValueError("negatives within a domain need a sampler that knows the domains of items")


def _at_least_one(target: Tensor, mask: Tensor | None, less: int = 0) -> Tensor | int:
    """The number of positions that count, less some, but 1 at least."""
    return max(len(target) - less, 1) if mask is None else (mask.sum() - less).clamp(min=1)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
