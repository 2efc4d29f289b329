"""Self-supervised views of items: masks by mutual information, InfoNCE, and views from chosen features."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from models.inputs.embedding import InputEmbedding
from models.losses.config import ViewsConfig
from models.losses.views import ItemViews, correlated_masks, info_nce, mutual_information
from tests.models.inputs.test_embedding import GENRES, make_catalog
from tests.models.inputs.test_fusion import make, mlp

CATALOG = make_catalog()


def literal(a: list[int], b: list[int]) -> float:
    """sum over pairs of values of p(x, y) log(p(x, y) / p(x) p(y))."""
    n, pairs, of_a, of_b = len(a), Counter(zip(a, b, strict=True)), Counter(a), Counter(b)
    return sum(c / n * math.log(c / n / (of_a[x] / n * of_b[y] / n)) for (x, y), c in pairs.items())


def test_mutual_information() -> None:
    random = np.random.default_rng(0)
    for values in (2, 5, 40):
        a, b = random.integers(-1, values, (2, 60))
        assert mutual_information(a, b) == pytest.approx(literal(a.tolist(), b.tolist()))
    a = np.array([0, 0, 1, 1, 2, 2])
    assert mutual_information(a, 7 - 3 * a) == pytest.approx(math.log(3))  # one says all of the other
    assert mutual_information(a, np.array([0, 1, 0, 1, 0, 1])) == pytest.approx(0.0)
    assert mutual_information(a, np.zeros(6, np.int64)) == pytest.approx(0.0)


def test_a_seed_goes_with_what_says_most_about_it() -> None:
    """Five features, of which two say the same as the first, the second a little less."""
    random = np.random.default_rng(0)
    first, other = random.integers(0, 6, (2, 400))
    alike = np.where(random.random(400) < 0.1, 0, first)
    codes = [first, random.integers(0, 6, 400), first // 2, other, alike]
    masks = correlated_masks(codes)
    assert masks.diagonal().tolist() == [1.0] * 5
    assert masks.sum(1).tolist() == [3.0] * 5  # the seed, and half of five
    assert masks[0].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert correlated_masks(codes[:2]).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert correlated_masks(codes[:3]).sum(1).tolist() == [2.0] * 3
    assert correlated_masks(codes[:4]).sum(1).tolist() == [3.0] * 4


def test_info_nce_and_its_gradients() -> None:
    one, other = torch.randn(2, 4, 3, requires_grad=True).unbind()
    ids = [5, 7, 5, 9]
    found = info_nce(one, other, torch.tensor(ids), 0.3)
    total = torch.zeros(())
    for i in range(4):
        powers = []
        for j in range(4):
            cosine = (one[i] * other[j]).sum() / (one[i].norm() * other[j].norm())
            powers.append(torch.exp(cosine / 0.3) * (i == j or ids[i] != ids[j]))
        total = total - torch.log(powers[i] / sum(powers))
    torch.testing.assert_close(found, total / 4)
    mine, theirs = (
        torch.autograd.grad(value, [one, other], retain_graph=True) for value in (found, total / 4)
    )
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("mode", ["add", "mean", "concat", "gated", "tower"])
def test_a_view_is_made_of_its_features_alone(mode: str) -> None:
    """As of an item whose own embedding, and other features, are zero."""
    embedding, ids = make(mode), torch.tensor([2, 3, 4])
    keep = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    found = embedding.item_view(ids, keep)
    weights = dict(embedding.named_parameters())
    if mode == "tower":
        features = embedding.features(ids)
        rows = [[features[0][row], torch.zeros_like(features[0][row]), features[2][row]] for row in range(3)]
        expected = torch.stack([mlp(weights, vectors) for vectors in rows])
    else:
        with torch.no_grad():
            embedding.item.weight.zero_()
            embedding.features[1].table.weight.zero_()
        expected = embedding.item_vectors(ids)
    torch.testing.assert_close(found, expected)


def views(embedding: InputEmbedding, **settings: Any) -> ItemViews:
    chosen = [each for each in CATALOG.features if each.name in embedding.features.names]
    return ItemViews(ViewsConfig(weight=0.5, **settings), chosen, CATALOG.first_item, CATALOG.num_item_ids)


@pytest.mark.parametrize("masking", ["correlated", "random"])
def test_both_views_have_all_features_between_them(masking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no feature is in both; seeds differ from batch to batch."""
    embedding, seen = make("add"), set()

    def item_view(ids: Tensor, keep: Tensor, drop: float) -> Tensor:
        assert ((ids >= CATALOG.first_item) & (ids < CATALOG.num_item_ids)).all()
        assert (len(ids), drop) == (64, 0.2)
        kept.append(keep)
        return torch.randn(len(ids), 4)

    monkeypatch.setattr(embedding, "item_view", item_view)
    loss = views(embedding, masking=masking, items=64)
    for _ in range(40):
        kept: list[Tensor] = []
        loss(embedding)
        assert (kept[0] + kept[1]).tolist() == [1.0] * 3
        assert 0 < kept[0].sum() < 3
        seen.add(tuple(kept[0].tolist()))
    assert len(seen) > 1


def test_values_are_dropped_at_random_and_the_mean_is_of_the_rest() -> None:
    embedding = make("add", item_features=["genre"])
    genre, table = embedding.features[0], embedding.features[0].table.weight
    item = 2  # of two genres
    possible = [torch.zeros(4), *(table[value].float() for value in GENRES[item])]
    possible.append(sum(possible) / 2)
    found = genre(torch.full((3000,), item), 0.25).float()
    which = torch.stack([(found - each).abs().amax(1) < 1e-6 for each in possible])
    assert (which.sum(0) == 1).all()
    shares = which.double().mean(1).tolist()
    assert shares == pytest.approx([0.0625, 0.1875, 0.1875, 0.5625], abs=0.04)


def test_too_few_features_are_refused() -> None:
    with pytest.raises(UserError, match="two views of an item need two features"):
        views(make("add", item_features=["brand"]))
    with pytest.raises(UserError, match="two views of an item need two features"):
        views(make("add", item_features=["genre"]), dropout=0.0)
    one = make("add", item_features=["genre"])
    alone = views(one, items=8)
    assert alone(one).item() > 0.0
    assert (alone.first.tolist(), alone.second.tolist()) == ([[1.0]], [[1.0]])


def test_their_factor_is_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = make("add")
    loss = views(embedding, items=16, dropout=0.0)
    torch.manual_seed(3)
    found = loss(embedding)
    torch.manual_seed(3)
    ids = torch.randint(CATALOG.first_item, CATALOG.num_item_ids, (16,))
    seed = int(torch.randint(3, (1,)))
    one, other = embedding.item_view(ids, loss.first[seed]), embedding.item_view(ids, 1 - loss.first[seed])
    torch.testing.assert_close(found, 0.5 * info_nce(one, other, ids, 0.1))
