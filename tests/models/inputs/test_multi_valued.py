"""Features with many values against a loop over items; one long list costs no more than its values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from models.data.catalog import MultiCategoricalFeature
from models.inputs.multi_valued import PADDED, MultiCategoricalEmbedding, padded_width

SIZE, DIM = 50, 6
LENGTHS = {
    "alike": [0, 1, 3, 2, 3, 1, 2],
    "one long": [0, 1, 1, 2, 300, 1, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    "some long": [0, 300, *[1] * 60, 200, *[2] * 60, 4],
    "no values": [0, 0],
    "only padding": [0],
}


def feature(lengths: list[int]) -> MultiCategoricalFeature:
    generator = torch.Generator().manual_seed(0)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    values = torch.randint(1, SIZE, (sum(lengths),), generator=generator)
    return MultiCategoricalFeature("words", SIZE, values, offsets)


def slow(given: MultiCategoricalFeature, table: Tensor, items: list[int], most: int | None) -> Tensor:
    rows = [given.values[a:b][:most] for a, b in pairwise(given.offsets.tolist())]
    return torch.stack([table[rows[i]].mean(0) if len(rows[i]) else torch.zeros(DIM) for i in items])


@pytest.mark.parametrize("most", [None, 1, 3])
@pytest.mark.parametrize("way", ["ragged", "padded"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_the_mean_of_the_values_and_its_gradient(lengths: list[int], way: str, most: int | None) -> None:
    given = feature(lengths)
    torch.manual_seed(0)
    embedding = MultiCategoricalEmbedding(given, DIM, most)
    items = torch.randint(len(lengths), (40,))
    weight = torch.randn(40, DIM)
    found = getattr(embedding, way)(items)
    expected = slow(given, embedding.table.weight, items.tolist(), most)
    torch.testing.assert_close(found, expected)
    if expected.requires_grad:
        gradients = [
            torch.autograd.grad((vectors * weight).sum(), embedding.table.weight)[0]
            for vectors in (found, expected)
        ]
        torch.testing.assert_close(*gradients)
    assert embedding.padded(items[:0]).shape == embedding.ragged(items[:0]).shape == (0, DIM)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_padded_rows_cost_by_the_number_of_values(lengths: list[int]) -> None:
    counts = torch.tensor(lengths)
    width = padded_width(counts)
    cost = len(lengths) * width + int(counts[counts > width].sum())
    assert cost <= max(PADDED * sum(lengths), 2 * len(lengths))


def test_the_cost_of_one_long_text_among_many_items() -> None:
    """20,000 items of 5 words and one of 8,000: rows of 8,000 would be 160 million values."""
    lengths = torch.full((20_000,), 5)
    lengths[7] = 8_000
    assert padded_width(lengths) == 5
    embedding = MultiCategoricalEmbedding(feature(lengths.tolist()), DIM)
    buffers = sum(buffer.numel() for buffer in embedding.buffers())
    assert buffers < 3 * int(lengths.sum())
    seen: list[int] = []
    embedding.table.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].numel()))
    items = torch.arange(20_000)
    torch.testing.assert_close(embedding.ragged(items), embedding.padded(items))
    assert seen == [107_995, 100_000, 8_000]


def test_the_width_is_the_cheapest() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        counts = torch.from_numpy((generator.pareto(0.7, 40) * 3).astype(np.int64) + 1)

        def cost(width: int, counts: Tensor = counts) -> int:
            return len(counts) * width + int(counts[counts > width].sum())

        width, longest = padded_width(counts), int(counts.max())
        if width != longest or longest * len(counts) > PADDED * int(counts.sum()):
            assert cost(width) == min(map(cost, range(1, longest + 1)))
            assert cost(width) <= 2 * int(counts.sum()) + len(counts)
