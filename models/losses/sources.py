"""Where the negatives of a batch come from: draws, targets of other positions, or both."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from models.distributed.tables import HeldItems
from models.losses.config import NegativesConfig
from models.losses.drawn import Negatives, OwnNegatives, SharedNegatives
from models.losses.negatives import NegativeSampler

ItemVectors = Callable[[Tensor | None], Tensor]
"""Vectors of known items: of the given ranks (id minus first known id; any shape), or of all of them; where
items are divided among processes, of all that this one holds."""


def draw_sources(
    config: NegativesConfig,
    sampler: NegativeSampler,
    held: HeldItems,
    items: ItemVectors,
    target: Tensor,
    mask: Tensor | None,
    domain: Tensor | None,
) -> tuple[Tensor, list[Negatives]]:
    """Vectors of the targets, [positions, dim], and their negatives.

    Args:
        config: where negatives come from.
        sampler: draws them.
        held: which of the known items this process holds.
        items: gives item vectors.
        target: [positions] item ranks.
        mask: [positions] bool, false for those that do not count; None: all do.
        domain: [positions] domain ids, where negatives are to be of a position's own; None: of any.
    """
    sources: list[Negatives] = []
    if config.source == "in_batch":
        taken = items(target)
    elif config.sharing == "batch":
        taken = items(target)
        sources.append(_shared(config, sampler, items, domain))
    else:
        ranks = (
            sampler.draw(len(target), config.count)
            if domain is None
            else sampler.draw_within(domain, config.count)
        )
        if ranks.numel() >= sampler.num_items and not held.is_divided:
            table, rows = items(None), ranks
            taken = F.embedding(target, table)
        else:
            table, rows = items(ranks.flatten()), torch.arange(ranks.numel(), device=ranks.device)
            taken = items(target)
        sources.append(OwnNegatives(ranks, rows.view_as(ranks), table))
    if config.source != "catalog":
        others = None if domain is None else _of_other_domains(sampler.member, target, domain)
        sources.append(SharedNegatives(target, taken, mask, others))
    return taken, sources


def _shared(
    config: NegativesConfig, sampler: NegativeSampler, items: ItemVectors, domain: Tensor | None
) -> SharedNegatives:
    """One draw for the whole batch; within domains, as many of each domain."""
    if domain is None:
        ranks = sampler.draw(config.count)
        return SharedNegatives(ranks, items(ranks))
    every = torch.arange(1, sampler.num_domains + 1, device=domain.device)
    drawn = sampler.draw_within(every, config.count).flatten()
    of = every[:, None].expand(-1, config.count).flatten()
    return SharedNegatives(drawn, items(drawn), hidden=lambda part: of != domain[part, None])


def _of_other_domains(member: Tensor, target: Tensor, domain: Tensor) -> Callable[[slice], Tensor]:
    """Which targets are items that a position's domain does not have."""
    return lambda part: ~member[:, target][domain[part]]
