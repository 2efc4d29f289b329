"""The loss of the next item's attributes, against sums over single values in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.data.catalog import CategoricalFeature, ItemFeature, MultiCategoricalFeature, NumericFeature
from models.losses.attributes import NextAttributes, predictable
from models.losses.full_softmax import full_softmax
from tests.models.inputs.test_embedding import BRAND, GENRES, make_catalog

DIM, WEIGHT, T = 3, 0.3, 0.5
ITEMS = [2, 4, 3, 1, 3, 2]
MASK = [True, True, False, True, True, True]
FACTOR = [1.0, 0.5, 2.0, 1.0, 0.0, 3.0]


def make() -> NextAttributes:
    torch.manual_seed(0)
    loss = NextAttributes(predictable(make_catalog().features), DIM, WEIGHT, T).double()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.normal_()
            parameter[0] = 0.0
    return loss


def slow(query: Tensor, tables: list[Tensor], mask: list[bool], factor: list[float]) -> Tensor:
    """The sum over positions and features of `log sum exp - mean score of the item's values`."""
    total = torch.zeros((), dtype=torch.float64)
    for row, item, counts, weight in zip(query, ITEMS, mask, factor, strict=True):
        for table, values in zip(tables, ([BRAND[item]], GENRES[item]), strict=True):
            if counts and values and values[0] > 1:
                scores = [(row * vector).sum() / T for vector in table[2:]]
                wanted = sum(scores[value - 2] for value in values) / len(values)
                total = total + weight * (torch.log(sum(torch.exp(score) for score in scores)) - wanted)
    return WEIGHT * total


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients(masked: bool, weighted: bool) -> None:
    loss, query = make(), torch.randn(len(ITEMS), DIM, dtype=torch.float64, requires_grad=True)
    tables = [label.table.weight for label in loss.labels]
    mask = MASK if masked else [True] * len(ITEMS)
    factor = FACTOR if weighted else [1.0] * len(ITEMS)
    found = loss(
        query,
        torch.tensor(ITEMS),
        7.0,
        torch.tensor(MASK) if masked else None,
        torch.tensor(FACTOR, dtype=torch.float64) if weighted else None,
    )
    expected = slow(query, tables, mask, factor) / 7.0
    torch.testing.assert_close(found, expected)
    mine, theirs = (torch.autograd.grad(value, [query, *tables]) for value in (found, expected))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert mine[0].any(1).tolist() == [
        counts and weight > 0 and item != 1 for counts, weight, item in zip(mask, factor, ITEMS, strict=True)
    ]
    count = sum(mask)
    plain = loss(query, torch.tensor(ITEMS), mask=torch.tensor(MASK) if masked else None)
    torch.testing.assert_close(plain, slow(query, tables, mask, [1.0] * len(ITEMS)) / count)


def test_one_value_each_is_the_cross_entropy() -> None:
    features: list[ItemFeature] = [make_catalog().features[0]]
    loss = NextAttributes(features, DIM, 1.0, T)
    query, items = torch.randn(2, DIM), torch.tensor([2, 4])  # with brands 3 and 2
    table = loss.labels[0].table.weight
    expected = full_softmax(query, table[2:], torch.tensor([1, 0]), T) / 2
    torch.testing.assert_close(loss(query, items), expected)


def test_what_can_be_predicted() -> None:
    names = [feature.name for feature in predictable(make_catalog().features)]
    assert names == ["brand", "genre"]
    ids = torch.zeros(5, dtype=torch.int64)
    nothing: list[ItemFeature] = [
        CategoricalFeature("empty", 2, ids),
        NumericFeature("price", torch.zeros(5, 2)),
        MultiCategoricalFeature("none", 2, ids, torch.arange(6)),
    ]
    assert predictable(nothing) == []
    assert make().values == (4 - 2) + (5 - 2)
    assert math.isclose(make().weight, WEIGHT)
