"""Losses against their formulas, written out in float64."""

from __future__ import annotations

import math

import pytest
import torch

from models.losses import LossConfig, RetrievalLoss, full_softmax, sampled_softmax, scores_of
from models.negatives import NegativeSampler, NegativesConfig

POSITIONS, ITEMS, DIM, TEMPERATURE = 7, 11, 5, 0.05


@pytest.fixture
def vectors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(POSITIONS, DIM, dtype=torch.float64, generator=generator)
    items = torch.randn(ITEMS, DIM, dtype=torch.float64, generator=generator)
    target = torch.randint(ITEMS, (POSITIONS,), generator=generator)
    query, items = (torch.nn.functional.normalize(x, dim=-1).requires_grad_() for x in (query, items))
    return query, items, target


def lookup(items: torch.Tensor):
    return lambda ranks: items if ranks is None else items[ranks]


def full_by_loops(query: torch.Tensor, items: torch.Tensor, target: torch.Tensor) -> float:
    total = 0.0
    for q, t in zip(query.tolist(), target.tolist(), strict=True):
        logits = [sum(a * b for a, b in zip(q, item, strict=True)) / TEMPERATURE for item in items.tolist()]
        total -= math.log(math.exp(logits[t]) / sum(math.exp(logit) for logit in logits))
    return total / len(target)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100, None])
def test_full_softmax_and_its_gradients(vectors: tuple[torch.Tensor, ...], chunk: int | None) -> None:
    query, items, target = vectors
    loss = full_softmax(query, items, target, TEMPERATURE, chunk)
    assert loss.item() == pytest.approx(full_by_loops(query, items, target), rel=1e-12)
    found = torch.autograd.grad(3.0 * loss, (query, items))
    plain = torch.nn.functional.cross_entropy(query @ items.T / TEMPERATURE, target)
    expected = torch.autograd.grad(3.0 * plain, (query, items))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_full_softmax_in_single_precision(vectors: tuple[torch.Tensor, ...]) -> None:
    query, items, target = vectors
    loss = full_softmax(query.float(), items.float(), target, TEMPERATURE)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(full_by_loops(query, items, target), rel=1e-5)


def test_sampled_softmax_by_loops(vectors: tuple[torch.Tensor, ...]) -> None:
    """A negative that is the positive does not count; the positive takes no correction."""
    query, items, target = vectors
    negatives = torch.tensor([[1, 2, 2], [3, 4, 5], [0, 0, 0], [6, 7, 8], [9, 10, 1], [2, 5, 7], [1, 3, 8]])
    negatives[0, 1] = target[0]
    negatives[2] = target[2]
    correction = torch.linspace(-1, 1, 21, dtype=torch.float64).view(7, 3)
    total = 0.0
    for row in range(POSITIONS):
        scores = [(query[row] @ items[i]).item() / TEMPERATURE for i in range(ITEMS)]
        chosen = math.exp(scores[target[row]])
        others = sum(
            math.exp(scores[i] - float(correction[row, k]))
            for k, i in enumerate(negatives[row].tolist())
            if i != target[row]
        )
        total -= math.log(chosen / (chosen + others))
    positive = (query * items[target]).sum(-1)
    scores = (query[:, None] * items[negatives]).sum(-1)
    loss = sampled_softmax(positive, scores, negatives == target[:, None], TEMPERATURE, correction)
    assert loss.item() == pytest.approx(total / POSITIONS, rel=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, query)[0]).all()


def test_both_ways_to_score_drawn_items_agree(vectors: tuple[torch.Tensor, ...]) -> None:
    query, items, _ = vectors
    ranks = torch.randint(ITEMS, (POSITIONS, 4))
    by_table = scores_of(query, ranks, lookup(items), num_items=ITEMS)
    by_lookup = scores_of(query, ranks, lookup(items), num_items=10**9)
    torch.testing.assert_close(by_table, by_lookup)


@pytest.mark.parametrize("sharing", ["position", "batch"])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_corrected_samples_estimate_the_full_softmax(
    vectors: tuple[torch.Tensor, ...], sharing: str, power: float
) -> None:
    """With logQ, however the negatives are drawn, many of them give the loss over all items."""
    query, items, target = vectors
    counts = torch.arange(ITEMS + 2)
    negatives = NegativesConfig(count=200_000, sharing=sharing, popularity_power=power, logq=True)
    loss = RetrievalLoss(LossConfig(negatives=negatives), NegativeSampler(counts, 2, power))
    torch.manual_seed(0)
    found = loss(query.float(), target, lookup(items.float()))
    assert found.item() == pytest.approx(full_by_loops(query, items, target), rel=0.02)


def test_the_uniform_sampler_draws_every_item_alike() -> None:
    torch.manual_seed(0)
    drawn = NegativeSampler(torch.tensor([0, 0, 100, 1, 1, 1]), 2).draw(20_000, 2)
    assert drawn.shape == (20_000, 2)
    share = torch.bincount(drawn.flatten(), minlength=4) / drawn.numel()
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.01, rtol=0)


def test_the_popularity_sampler_follows_the_counts() -> None:
    torch.manual_seed(0)
    sampler = NegativeSampler(torch.tensor([50, 50, 6, 3, 1, 0]), 2, popularity_power=1.0)
    share = torch.bincount(sampler.draw(40_000), minlength=4) / 40_000
    expected = torch.tensor([6, 3, 1, 1]) / 11  # what never occurs counts as once
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(sampler.log_odds.exp(), expected)
