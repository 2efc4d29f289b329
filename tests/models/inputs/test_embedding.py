from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import CategoricalFeature, ItemCatalog, MultiCategoricalFeature, NumericFeature
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding

DIM = 4
# Ids 0 padding, 1 unknown, 2 to 4 known.
BRAND = [0, 1, 3, 1, 2]
GENRES = [[], [1], [2, 4], [3], [1]]
PRICE = [[0.0, 0.0], [0.0, 1.0], [0.5, 0.0], [-2.0, 0.0], [0.0, 1.0]]


def make_catalog(features: bool = True) -> ItemCatalog:
    counts = torch.tensor([0, 0, 5, 3, 1])
    if not features:
        return ItemCatalog(5, 2, counts)
    flat = torch.tensor([value for row in GENRES for value in row])
    offsets = torch.tensor([0, *(len(row) for row in GENRES)]).cumsum(0)
    return ItemCatalog(
        5,
        2,
        counts,
        (
            CategoricalFeature("brand", 4, torch.tensor(BRAND)),
            MultiCategoricalFeature("genre", 5, flat, offsets),
            NumericFeature("price", torch.tensor(PRICE)),
        ),
    )


def make(dropout: float = 0.0, *, catalog_features: bool = True, **config: Any) -> InputEmbedding:
    torch.manual_seed(0)
    return InputEmbedding(
        EmbeddingConfig(**config),
        make_catalog(catalog_features),
        num_behaviors=2,
        dim=DIM,
        max_length=6,
        dropout=dropout,
    )


@pytest.fixture
def batch() -> PackedBatch:
    return PackedBatch.from_lists([[2, 4, 2], [1, 3]], behaviors=[[1, 2, 2], [2, 1]])


def slow_item_vector(embedding: InputEmbedding, item: int) -> list[Tensor]:
    """The item's own vector and that of each feature, from the tables."""
    brand, genre, price = embedding.features
    genres = [genre.table.weight[value] for value in GENRES[item]]
    return [
        embedding.item.weight[item],
        brand.table.weight[BRAND[item]],
        sum(genres) / len(genres) if genres else torch.zeros(DIM),
        PRICE[item][0] * price.linear.weight[:, 0] + PRICE[item][1] * price.linear.weight[:, 1],
    ]


def test_an_event_is_its_item_times_sqrt_dim_plus_its_position(batch: PackedBatch) -> None:
    embedding = make(catalog_features=False)
    found, _ = embedding(batch)
    for token, (item, position) in enumerate([(2, 0), (4, 1), (2, 2), (1, 0), (3, 1)]):
        expected = embedding.item.weight[item] * 2.0 + embedding.position[position]
        torch.testing.assert_close(found[token], expected)


def test_behaviors_are_added(batch: PackedBatch) -> None:
    embedding = make(catalog_features=False, behaviors="add")
    found, _ = embedding(batch)
    for token, (item, position, behavior) in enumerate(
        [(2, 0, 1), (4, 1, 2), (2, 2, 2), (1, 0, 2), (3, 1, 1)]
    ):
        event = embedding.item.weight[item] + embedding.behavior.weight[behavior]
        torch.testing.assert_close(found[token], event * 2.0 + embedding.position[position])


def test_the_behavior_asked_for_is_added_to_the_event_before() -> None:
    asked = PackedBatch.from_lists([[2, 4], [3]], behaviors=[[1, 1], [1]])
    asked = asked.with_values(target_behavior=torch.tensor([1, 2, 0]))
    embedding = make(catalog_features=False, query_behavior="add")
    found, _ = embedding(asked)
    for token, (item, position, behavior) in enumerate([(2, 0, 1), (4, 1, 2), (3, 0, 0)]):
        event = embedding.item.weight[item] + embedding.query_behavior.weight[behavior]
        torch.testing.assert_close(found[token], event * 2.0 + embedding.position[position])
    assert not embedding.query_behavior.weight[0].any()


@pytest.mark.parametrize(("setting", "divisor"), [("add", 1), ("mean", 4)])
def test_features_become_part_of_the_item_in_input_and_scoring(
    batch: PackedBatch, setting: str, divisor: int
) -> None:
    embedding = make(features=setting)
    expected = torch.stack([sum(slow_item_vector(embedding, item)) / divisor for item in range(5)])
    torch.testing.assert_close(embedding.item_vectors(), expected)
    ids = torch.tensor([3, 3, 2, 0, 1])
    torch.testing.assert_close(embedding.item_vectors(ids), expected[ids])
    torch.testing.assert_close(
        embedding(batch)[0], expected[batch.item] * 2.0 + embedding.position[batch.position]
    )


def test_features_are_left_out_on_request() -> None:
    embedding = make(features="none")
    assert torch.equal(embedding.item_vectors(), embedding.item.weight)
    assert len(embedding.features) == 0


@pytest.mark.parametrize("setting", ["none", "add", "mean"])
def test_padding_is_zero_and_learns_nothing(setting: str) -> None:
    embedding = make(features=setting)
    vectors = embedding.item_vectors()
    assert not vectors[0].any()
    (vectors * torch.randn_like(vectors)).sum().backward()
    assert not embedding.item.weight.grad[0].any()
    assert embedding.item.weight.grad[1:].all()
    for feature in embedding.features:
        table = getattr(feature, "table", None)
        if table is not None:
            assert not table.weight[0].any()
            assert not table.weight.grad[0].any()
            assert table.weight.grad[1:].any(-1).all()


def test_scales_of_fresh_tables() -> None:
    torch.manual_seed(0)
    catalog = ItemCatalog(1000, 2, torch.zeros(1000, dtype=torch.int64))
    embedding = InputEmbedding(
        EmbeddingConfig(), catalog, num_behaviors=1, dim=64, max_length=500, dropout=0.0
    )
    # A normal truncated at two standard deviations has 0.88 of the deviation.
    assert float(embedding.item.weight[1:].detach().std()) == pytest.approx(0.88 * 0.02, rel=0.02)
    assert float(embedding.item.weight.detach().abs().max()) <= 0.04
    assert float(embedding.position.detach().std()) == pytest.approx(0.88 / 8, rel=0.02)


def test_dropout_falls_in_training_only(batch: PackedBatch) -> None:
    embedding = make(catalog_features=False, dropout=0.5)
    assert (embedding(batch)[0] == 0).any()
    embedding.eval()
    assert torch.equal(embedding(batch)[0], embedding(batch)[0])


def test_asking_for_features_that_are_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match="no item features"):
        InputEmbedding(
            EmbeddingConfig(features="mean"),
            make_catalog(features=False),
            num_behaviors=1,
            dim=DIM,
            max_length=6,
            dropout=0.0,
        )


def test_catalog_tensors_are_not_saved_with_the_weights() -> None:
    names = set(make(features="add").state_dict())
    assert names == {
        "item.weight",
        "position",
        "features.0.table.weight",
        "features.1.table.weight",
        "features.2.linear.weight",
    }
