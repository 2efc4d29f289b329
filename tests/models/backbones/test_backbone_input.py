"""What the kinds of backbone are given: positions or none, items scaled or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.inputs.config import EmbeddingConfig
from models.inputs.embedding import InputEmbedding

DIM = 4


def make(**settings: Any) -> InputEmbedding:
    torch.manual_seed(0)
    catalog = ItemCatalog(5, 2, torch.tensor([0, 0, 5, 3, 1]))
    sizes = {"num_behaviors": 1, "dim": DIM, "max_length": 6, "dropout": 0.0}
    return InputEmbedding(EmbeddingConfig(), catalog, **{**sizes, **settings})


@pytest.mark.parametrize("learned_positions", [True, False])
@pytest.mark.parametrize("scale_items", [True, False])
def test_positions_and_scale_can_be_left_out(learned_positions: bool, scale_items: bool) -> None:
    embedding = make(learned_positions=learned_positions, scale_items=scale_items)
    found, _ = embedding(PackedBatch.from_lists([[2, 4, 2], [1, 3]]))
    for token, (item, position) in enumerate([(2, 0), (4, 1), (2, 2), (1, 0), (3, 1)]):
        expected = embedding.item.weight[item] * (2.0 if scale_items else 1.0)
        if learned_positions:
            expected = expected + embedding.position[position]
        torch.testing.assert_close(found[token], expected)
    assert ("position" in embedding.state_dict()) == learned_positions


def test_positions_start_as_large_as_items_where_these_are_not_scaled() -> None:
    sizes = {"dim": 64, "max_length": 500}
    # A normal truncated at two standard deviations has 0.88 of the deviation.
    scaled, unscaled = make(**sizes), make(**sizes, scale_items=False)
    assert float(scaled.position.detach().std()) == pytest.approx(0.88 / 8, rel=0.02)
    assert float(unscaled.position.detach().std()) == pytest.approx(0.88 * 0.02, rel=0.02)


def test_the_item_of_scoring_is_never_scaled() -> None:
    embedding = make(scale_items=True)
    assert torch.equal(embedding.item_vectors(), embedding.item.weight)
