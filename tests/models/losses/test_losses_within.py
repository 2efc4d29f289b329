"""Negatives within the target's domain, and the softmax over its items, against plain Python."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.item_domains import ItemDomains
from models.distributed.tables import HeldItems
from models.distributed.tables.rows import RowShards
from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from tests.models.losses import loss_oracle as oracle
from tests.models.losses.test_losses import (
    COUNTS,
    FIRST,
    ITEMS,
    SOURCES,
    compare,
    lookup,
    make_vectors,
)

# Some items are of two domains. The last domain has one item.
CATALOGS = [set(range(ITEMS)), {0, 2, 4, 6, 8, 10}, {1, 2, 3, 5, 6, 7}, {9}]
DOMAINS = ItemDomains(torch.tensor([[item in catalog for item in range(ITEMS)] for catalog in CATALOGS]))
DOMAIN_OF = [1, 2, 2, 2, 1, 2, 2, 2, 1, 3, 1]
"""Of each item, one of its domains."""


def make_loss(**config: Any) -> RetrievalLoss:
    negatives = {**config.pop("negatives", {}), "domain": "within"}
    parsed = LossConfig(**{"temperature": 0.3, "negatives": negatives, **config})
    power = parsed.negatives.popularity_power
    return RetrievalLoss(parsed, NegativeSampler(torch.tensor(COUNTS), FIRST, power, DOMAINS))


def negatives_of(loss: RetrievalLoss, target: Tensor, domain: Tensor) -> list[list[tuple[int, float]]]:
    """The ranks that the loss is about to draw, and how often each is expected, for each position."""
    config, sampler = loss.config.negatives, loss.sampler
    counts = [max(count, 1) for count in COUNTS[FIRST:]]
    weights = [count**config.popularity_power for count in counts]
    total = [sum(weights[item] for item in catalog) for catalog in CATALOGS]
    own: list[list[int]] = [[] for _ in target]
    if config.source != "in_batch" and config.sharing == "position":
        own = sampler.draw_within(domain, config.count).tolist()
    elif config.source != "in_batch":
        each = sampler.draw_within(torch.arange(1, len(CATALOGS)), config.count).tolist()
        own = [each[own - 1] for own in domain.tolist()]
    drawn = 0 if config.source == "in_batch" else config.count
    others = 0
    if config.source != "catalog":
        others = len(target) - 1
        targets = target.tolist()
        own = [
            ranks + [t for other, t in enumerate(targets) if other != place and t in CATALOGS[domain[place]]]
            for place, ranks in enumerate(own)
        ]
    found = []
    for ranks, home in zip(own, domain.tolist(), strict=True):
        assert set(ranks) <= CATALOGS[home]
        times = [drawn * weights[i] / total[home] + others * counts[i] / sum(counts) for i in range(ITEMS)]
        found.append([(i, times[i] if config.logq else 1.0) for i in ranks])
    return found


def make_positions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, items, target = make_vectors(positions=12)
    target[3] = 9  # the only one of its domain
    return query, items, target, torch.tensor(DOMAIN_OF)[target]


@pytest.mark.parametrize("kind", ["sampled_softmax", "bce"])
@pytest.mark.parametrize("negatives", SOURCES, ids=lambda config: "-".join(map(str, config.values())))
def test_negatives_are_of_the_domain(negatives: dict[str, Any], kind: str) -> None:
    if kind == "bce" and negatives["logq"]:
        negatives = {**negatives, "logq": False}
    query, items, target, domain = make_positions()
    loss = make_loss(negatives=negatives, kind=kind)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target, domain)
    torch.manual_seed(1)
    found = loss(query, target, lookup(items), domain=domain)
    expected = oracle.ORACLES[kind](query, items, target.tolist(), drawn, loss.config)
    compare(found, expected, (query, items, target))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_full_softmax_is_over_the_domain(masked: bool, weighted: bool) -> None:
    query, items, target, domain = make_positions()
    mask = torch.arange(12) % 5 != 1 if masked else None
    if mask is not None:
        domain = domain.where(mask, 0)  # padding
    weight = torch.linspace(0.5, 2.0, 12) if weighted else None
    loss = make_loss(kind="full_softmax")
    found = loss(query, target, lookup(items), mask=mask, weight=weight, domain=domain)
    terms = []
    for place in range(12) if mask is None else mask.nonzero().flatten().tolist():
        odds = {item: ((query[place] * items[item]).sum() / 0.3).exp() for item in CATALOGS[domain[place]]}
        factor = 1.0 if weight is None else weight[place].double()
        terms.append(-factor * (odds[int(target[place])] / sum(odds.values())).log())
    compare(found, sum(terms) / len(terms), (query, items, target))


@pytest.mark.parametrize("power", [0.0, 0.75])
def test_draws_have_the_odds_of_the_domain(power: float) -> None:
    sampler = NegativeSampler(torch.tensor(COUNTS), FIRST, power, DOMAINS)
    torch.manual_seed(0)
    draws = sampler.draw_within(torch.arange(len(CATALOGS)), 40_000)
    weights = torch.tensor(COUNTS[FIRST:]).clamp(min=1).double() ** power
    for catalog, own in zip(CATALOGS, draws, strict=True):
        expected = torch.tensor(
            [weights[i] if i in catalog else 0.0 for i in range(ITEMS)], dtype=torch.float64
        )
        shares = torch.bincount(own, minlength=ITEMS) / len(own)
        torch.testing.assert_close(shares.double(), expected / expected.sum(), rtol=0, atol=0.01)


def test_what_is_about_all_items_is_refused() -> None:
    for config in ({"kind": "gbce"}, {"kind": "full_softmax", "label_smoothing": 0.1}):
        with pytest.raises(ValueError, match=r"negatives\.domain is within"):
            LossConfig(negatives={"domain": "within"}, **config)  # type: ignore[arg-type]


def test_divided_items_are_refused() -> None:
    config = LossConfig(negatives={"domain": "within"})  # type: ignore[arg-type]
    sampler = NegativeSampler(torch.tensor(COUNTS), FIRST, 0.0, DOMAINS)
    held = HeldItems(SimpleNamespace(count=2), RowShards(len(COUNTS), 0, 2), FIRST)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="items are divided"):
        RetrievalLoss(config, sampler, held)
