"""Fusions of item features against plain loops over numbers, values and gradients, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding
from tests.models.inputs.test_embedding import DIM, make_catalog, slow_item_vector

Weights = dict[str, Tensor]
FUSED = ["add", "mean", "concat", "gated", "tower"]


def make(mode: str, **config: Any) -> InputEmbedding:
    torch.manual_seed(0)
    embedding = InputEmbedding(
        EmbeddingConfig(features=mode, **config),
        make_catalog(),
        num_behaviors=2,
        dim=DIM,
        max_length=6,
        dropout=0.0,
        learned_positions=False,
        scale_items=False,
    ).double()
    with torch.no_grad():
        for name, parameter in embedding.named_parameters():
            parameter.normal_(0.0, 0.5)
            if name.endswith(("item.weight", "table.weight")):
                parameter[0] = 0.0
    for name, buffer in embedding.named_buffers():
        if name.endswith("values") and buffer.is_floating_point():
            buffer.data = buffer.double()
    return embedding.eval()


def dot(matrix: Tensor, vector: list[Tensor]) -> list[Tensor]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def mlp(weights: Weights, vectors: list[Tensor]) -> Tensor:
    flat = [number for vector in vectors for number in vector]
    hidden = [number if number > 0 else number * 0 for number in dot(weights["fusion.f1.weight"], flat)]
    return torch.stack(dot(weights["fusion.f2.weight"], hidden))


def gated(weights: Weights, item: Tensor, features: list[Tensor], _: int) -> Tensor:
    total = list(item)
    for number, feature in enumerate(features):
        matrix, bias = (weights[f"fusion.gates.{number}.{name}"] for name in ("weight", "bias"))
        gates = [
            1 / (1 + torch.exp(-(score + b)))
            for score, b in zip(dot(matrix, [*item, *feature]), bias, strict=True)
        ]
        total = [a + gate * b for a, gate, b in zip(total, gates, feature, strict=True)]
    return torch.stack(total)


def tower(weights: Weights, item: Tensor, features: list[Tensor], id_: int) -> Tensor:
    """Ids 2 to 4 occur in the training part; 1 is unknown, 0 padding."""
    own = item if id_ >= 2 else weights["fusion.unknown"] * (id_ == 1)
    return own + mlp(weights, features)


ORACLES: dict[str, Callable[[Weights, Tensor, list[Tensor], int], Tensor]] = {
    "add": lambda weights, item, features, id_: item + sum(features),
    "mean": lambda weights, item, features, id_: (item + sum(features)) / (1 + len(features)),
    "concat": lambda weights, item, features, id_: mlp(weights, [item, *features]),
    "gated": gated,
    "tower": tower,
}


@pytest.mark.parametrize("mode", FUSED)
def test_item_vectors_and_their_gradients(mode: str) -> None:
    embedding, ids = make(mode), torch.tensor([3, 3, 2, 0, 1, 4])
    weights = dict(embedding.named_parameters())
    expected = torch.stack(
        [ORACLES[mode](weights, *_split(slow_item_vector(embedding, item)), item) for item in ids.tolist()]
    )
    found = embedding.item_vectors(ids)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(embedding.item_vectors()[ids], expected)
    batch = PackedBatch.from_lists([[3, 3, 2], [1, 4]])
    torch.testing.assert_close(embedding(batch)[0], expected[[0, 1, 2, 4, 5]])
    gradient = torch.randn_like(expected)
    mine = torch.autograd.grad(found, list(weights.values()), gradient)
    theirs = torch.autograd.grad(expected, list(weights.values()), gradient)
    for name, one, other in zip(weights, mine, theirs, strict=True):
        other = other.clone()
        if name.endswith(("item.weight", "table.weight")):
            other[0] = 0.0  # padding learns nothing
        torch.testing.assert_close(one, other, msg=name)
        assert one.any(), name


def _split(vectors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    return vectors[0], vectors[1:]


@pytest.mark.parametrize("mode", FUSED)
def test_padding_stays_zero(mode: str) -> None:
    embedding = make(mode).train()
    assert not embedding.item_vectors()[0].any()
    assert embedding.item_vectors()[1:].any(1).all()


@pytest.mark.parametrize("mode", ["add", "concat", "gated"])
def test_features_of_the_input_alone(mode: str) -> None:
    """Candidates are then their ids."""
    embedding, ids = make(mode, features_on="input"), torch.tensor([2, 4, 3])
    assert torch.equal(embedding.item_vectors(), embedding.item.weight)
    assert torch.equal(embedding.item_vectors(ids), embedding.item.weight[ids])
    batch = PackedBatch.from_lists([ids.tolist()])
    assert torch.equal(embedding(batch)[0], make(mode).item_vectors(ids))


def test_attention_only_keeps_features_out_of_vectors() -> None:
    """They come beside the tokens, scaled as items are."""
    embedding, ids = make("attention_only"), torch.tensor([2, 4, 3])
    embedding.scale = 3.0
    x, tokens = embedding(PackedBatch.from_lists([ids.tolist()]))
    assert torch.equal(x, embedding.item.weight[ids] * 3.0)
    assert torch.equal(embedding.item_vectors(ids), embedding.item.weight[ids])
    slow = [slow_item_vector(embedding, item)[1:] for item in ids.tolist()]
    assert embedding.num_attributes == len(tokens.attributes) == 3
    for number, vectors in enumerate(tokens.attributes):
        torch.testing.assert_close(vectors, torch.stack([row[number] for row in slow]) * 3.0)


@pytest.mark.parametrize(("layout", "first"), [("interleaved", 0), ("behavior_first", 1)])
def test_attributes_go_with_the_token_of_the_item(layout: str, first: int) -> None:
    """Every second one; others have zeros."""
    embedding = make("attention_only", layout=layout)
    _, tokens = embedding(PackedBatch.from_lists([[2, 4, 3]], behaviors=[[1, 2, 1]]))
    brand = embedding.features[0](torch.tensor([2, 4, 3]))
    others = torch.ones(len(tokens.position), dtype=torch.bool)
    others[first::2][:3] = False
    assert torch.equal(tokens.attributes[0][~others], brand)
    assert not tokens.attributes[0][others].any()


@pytest.mark.parametrize("features", ["none", "attention_only"])
def test_positions_may_be_for_attention_alone(features: str) -> None:
    torch.manual_seed(0)
    embedding = InputEmbedding(
        EmbeddingConfig(features=features, positions="attention_only"),
        make_catalog(),
        num_behaviors=1,
        dim=DIM,
        max_length=6,
        dropout=0.0,
    )
    x, tokens = embedding(PackedBatch.from_lists([[2, 4, 3], [1]]))
    torch.testing.assert_close(x, embedding.item.weight[[2, 4, 3, 1]] * math.sqrt(DIM))
    assert embedding.num_attributes == len(tokens.attributes) == (4 if features == "attention_only" else 1)
    assert torch.equal(tokens.attributes[-1], embedding.position[[0, 1, 2, 0]])


def test_what_attention_alone_cannot_see_is_refused() -> None:
    with pytest.raises(UserError, match="no learned positions"):
        make("none", positions="attention_only")  # of a backbone without
    for mode in ("attention_only", "tower"):
        with pytest.raises(UserError, match="no features to fuse"):
            make(mode, item_features=[])


def test_features_are_chosen_by_name() -> None:
    embedding = make("add", item_features=["price", "brand"])
    assert embedding.features.names == ["brand", "price"]  # in the order of the data set
    with pytest.raises(UserError, match="no item feature 'brnd'") as caught:
        make("add", item_features=["price", "brnd"])
    assert caught.value.where == "embedding.item_features = ['price', 'brnd']"
    assert caught.value.fix == "did you mean 'brand'?"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"features": "add", "id_dropout": 0.1}, "id_dropout is of an item tower"),
        ({"features": "mean", "attribute_dim": 4}, "attribute_dim is of features attention_only"),
        ({"features": "tower", "features_on": "input"}, "features_on is input"),
    ],
)
def test_settings_that_make_no_sense_together(settings: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        EmbeddingConfig(**settings)


def test_a_tower_drops_ids_at_random() -> None:
    """Of a share of the look-ups, each by itself; never in evaluation."""
    embedding = make("tower", id_dropout=0.3)
    ids = torch.full((4000,), 3)
    kept, dropped = (
        embedding.item_vectors(ids[:1]),
        embedding.item_vectors(ids[:1]) - embedding.item.weight[3],
    )
    dropped = dropped + embedding.fusion.unknown
    torch.testing.assert_close(embedding.item_vectors(ids), kept.expand(4000, -1))
    found = embedding.train().item_vectors(ids)
    is_dropped = (found - dropped).abs().amax(1) < 1e-12
    assert ((found - kept).abs().amax(1) < 1e-12)[~is_dropped].all()
    assert float(is_dropped.double().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))


def test_a_tower_without_ids_has_no_table() -> None:
    embedding = make("tower", id_dropout=1.0)
    trained = {name for name, parameter in embedding.named_parameters() if parameter.requires_grad}
    assert "item.weight" not in trained
    assert "fusion.unknown" not in trained
    assert embedding.item.weight.shape == (5, 1)
    weights = dict(embedding.named_parameters())
    for item in range(5):
        features = slow_item_vector(embedding, item)[1:]
        torch.testing.assert_close(embedding.item_vectors()[item], mlp(weights, features))


def test_who_trains_on_new_items_learns_their_rows() -> None:
    """Until then they are as unknown as items outside of the vocabulary."""
    embedding = make("tower")
    embedding.fusion.trained[4] = 0.01  # as a fresh row is drawn
    cold = embedding.item_vectors()[4]
    weights = dict(embedding.named_parameters())
    expected = mlp(weights, slow_item_vector(embedding, 4)[1:]) + embedding.fusion.unknown
    torch.testing.assert_close(cold, expected)
    embedding.train().eval()
    warm = expected - embedding.fusion.unknown + embedding.item.weight[4]
    torch.testing.assert_close(embedding.item_vectors()[4], warm)
