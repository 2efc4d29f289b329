"""What is drawn, how often, and that samples with logQ stand for all items."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.losses import LossConfig, RetrievalLoss
from models.losses.negatives import NegativeSampler
from tests.models.losses import loss_oracle as oracle

FIRST, ITEMS, DIM = 2, 8, 4
COUNTS = [0, 0, 60, 50, 20, 10, 8, 8, 6, 6]


def test_the_uniform_sampler_draws_every_item_alike() -> None:
    torch.manual_seed(0)
    drawn = NegativeSampler(torch.tensor([0, 0, 100, 1, 1, 1]), 2).draw(20_000, 2)
    assert drawn.shape == (20_000, 2)
    share = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.01, rtol=0)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_popularity_sampler_follows_the_counts(power: float) -> None:
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.tensor([50, 50, 6, 3, 1, 0]), 2, popularity_power=power)
    share = torch.bincount(sampler.draw(40_000), minlength=4) / 40_000
    weights = [count**power for count in (6, 3, 1, 1)]  # what never occurs counts as once
    expected = torch.tensor([weight / sum(weights) for weight in weights])
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(sampler.odds, expected)


def test_what_is_expected_counts_both_sources() -> None:
    """Draws follow the power of the counts, other targets the counts."""
    sampler = NegativeSampler(torch.tensor([0, 0, 9, 4, 1, 0]), 2, popularity_power=0.5)
    found = sampler.log_expected(torch.tensor([[0, 3], [1, 1]]), drawn=14, in_batch=30)
    odds, frequency = [3 / 7, 2 / 7, 1 / 7, 1 / 7], [9 / 15, 4 / 15, 1 / 15, 1 / 15]
    expected = [[math.log(14 * odds[i] + 30 * frequency[i]) for i in row] for row in ([0, 3], [1, 1])]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_shares_are_those_of_the_positions_that_carry_loss() -> None:
    sampler = NegativeSampler(torch.tensor([0, 0, 9, 4, 1, 0]), 2)
    sampler.count_targets(torch.tensor([5, 7, 0, 3, 1, 0]))
    found = sampler.log_expected(torch.tensor([1, 2]), drawn=0, in_batch=30)
    torch.testing.assert_close(found, torch.tensor([30 * 3 / 4, 30 / 4]).log())
    # Never counted: nothing where it was drawn, once where it must have been a target.
    mixed = sampler.log_expected(torch.tensor([0]), drawn=8, in_batch=30)
    torch.testing.assert_close(mixed, torch.tensor([8 / 4]).log())
    rare = sampler.log_expected(torch.tensor([0]), drawn=0, in_batch=torch.tensor(30))
    torch.testing.assert_close(rare, torch.tensor([30 / 4]).log())
    sampler.count_targets(torch.zeros(6))  # nothing carries loss: as it was
    assert sampler.frequency.tolist() == [0.0, 0.75, 0.25, 0.0]


def many_positions(positions: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of which a few differ, and targets as frequent as in the training part."""
    generator = torch.Generator().manual_seed(3)
    kinds = torch.randn(5, DIM, dtype=torch.float64, generator=generator)
    query = kinds[torch.randint(5, (positions,), generator=generator)]
    items = torch.randn(ITEMS, DIM, dtype=torch.float64, generator=generator)
    odds = torch.tensor(COUNTS[FIRST:]).double()
    target = torch.multinomial(odds, positions, replacement=True, generator=generator)
    return query.requires_grad_(), items.requires_grad_(), target


def distance(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> float:
    """Of two gradients, relative to the second."""
    apart, norm = (sum(x.square().sum().item() for x in parts) for parts in (map(Tensor.sub, a, b), b))
    return math.sqrt(apart / norm)


@pytest.mark.parametrize(
    "negatives",
    [
        {"source": "catalog", "sharing": "position", "popularity_power": 0.0},
        {"source": "catalog", "sharing": "position", "popularity_power": 1.0},
        {"source": "catalog", "sharing": "batch", "popularity_power": 1.0, "count": 5000},
        {"source": "in_batch"},
        {"source": "mixed", "sharing": "batch", "popularity_power": 0.0},
        {"source": "mixed", "sharing": "position", "popularity_power": 0.5},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_with_logq_many_negatives_give_the_gradient_over_all_items(
    negatives: dict[str, Any], smoothing: float
) -> None:
    """Whatever they are drawn from; without, draws that are not uniform give another one."""
    query, items, target = many_positions(3000)
    found = {}
    for logq in (True, False):
        config = LossConfig(
            temperature=1.0, label_smoothing=smoothing, negatives={"count": 1000, **negatives, "logq": logq}
        )
        sampler = NegativeSampler(torch.tensor(COUNTS), FIRST, config.negatives.popularity_power)
        torch.manual_seed(0)
        value = RetrievalLoss(config, sampler)(
            query, target, lambda ranks: items if ranks is None else items[ranks]
        )
        found[logq] = torch.autograd.grad(value, (query, items))
    loss = torch.nn.functional.cross_entropy(query @ items.T, target, label_smoothing=smoothing)
    expected = torch.autograd.grad(loss, (query, items))
    # All positions share the luck of common draws.
    assert distance(found[True], expected) < 0.08
    assert distance(found[False], expected) > 0.1


def test_the_mean_of_single_corrected_draws_is_the_sum_over_all_other_items() -> None:
    """The sum over negatives, not its logarithm, is without bias however few there are."""
    generator = torch.Generator().manual_seed(3)
    query = torch.randn(DIM, dtype=torch.float64, generator=generator)
    items = torch.randn(ITEMS, DIM, dtype=torch.float64, generator=generator)
    positions, target = 40_000, 3
    config = LossConfig(temperature=1.0, negatives={"count": 1, "popularity_power": 0.5, "logq": True})
    sampler = NegativeSampler(torch.tensor(COUNTS), FIRST, 0.5)
    torch.manual_seed(0)
    ranks = sampler.draw(positions, 1)
    torch.manual_seed(0)
    value = RetrievalLoss(config, sampler)(
        query.expand(positions, DIM),
        torch.full((positions,), target),
        lambda ranks: items if ranks is None else items[ranks],
        denominator=1.0,
    )
    # The loss of a position is log(1 + r), r the estimated odds of all others against the target.
    odds = [((query @ (items[i] - items[target])).exp()).item() for i in range(ITEMS)]
    estimates = [0.0 if i == target else odds[i] / sampler.odds[i].item() for i in range(ITEMS)]
    drawn = ranks[:, 0].tolist()
    assert value.item() == pytest.approx(sum(math.log1p(estimates[i]) for i in drawn), rel=1e-5)
    others = sum(odds) - odds[target]
    assert sum(estimates[i] for i in drawn) / positions == pytest.approx(others, rel=0.03)


def test_the_oracle_of_all_items_is_torch_s_own() -> None:
    query, items, target = many_positions(6)
    expected = torch.nn.functional.cross_entropy(query @ items.T / 0.5, target, label_smoothing=0.1)
    found = oracle.softmax_over_all(query, items, target.tolist(), 0.5, smoothing=0.1)
    torch.testing.assert_close(found, expected)
