"""Auxiliary loss: the attributes of the next item."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.catalog import MISSING, CategoricalFeature, ItemFeature, MultiCategoricalFeature
from models.inputs.item_features import FeatureEmbeddings
from models.losses.full_softmax import full_softmax

_FIRST_VALUE = 2
"""The first id of a feature that is a value: before it are padding and missing."""


class NextAttributes(nn.Module):
    """`weight * sum_j CE_j`: each attribute of the next item is predicted by the query for the item.

    As the auxiliary attribute predictors of DIF-SR (arXiv 2204.11046), but with a softmax over the values of
    a feature instead of a sigmoid each, so that a vocabulary of thousands weighs like others:
    `CE_j = log sum_v exp(q . w_v / T) - mean of q . w_v / T over the item's values v`. An item without a
    value has none to predict.

    Args:
        features: of all items; categorical ones, and those with several values.
        dim: width of queries.
        weight: factor of the loss.
        temperature: T, that of the main loss.
    """

    present: Tensor
    """[features, item ids] whether an item has a value."""

    def __init__(self, features: Sequence[ItemFeature], dim: int, weight: float, temperature: float) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        self.labels = FeatureEmbeddings(features, dim)
        self.register_buffer("present", torch.stack([_present(each) for each in features]), persistent=False)

    def forward(
        self,
        query: Tensor,
        items: Tensor,
        denominator: Tensor | float | None = None,
        mask: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The sum of the losses of all positions over `denominator`, a scalar.

        Args:
            query: [positions, dim].
            items: [positions] ids of the items to predict.
            denominator: the number of positions by default.
            mask: [positions] bool, false for those that do not count; None: all do.
            weight: [positions] factors of the losses of positions; None: 1.
        """
        with torch.autocast(query.device.type, enabled=False):
            query = query.to(torch.promote_types(query.dtype, torch.float32))
            total = query.new_zeros(())
            for label, present in zip(self.labels, self.present, strict=True):
                counted = present[items] if mask is None else present[items] & mask
                total = total + self._loss(query, items, label, counted, weight)
            if denominator is None:
                denominator = max(len(query), 1) if mask is None else mask.sum().clamp(min=1)
            return self.weight * total / denominator

    def _loss(
        self, query: Tensor, items: Tensor, label: nn.Module, counted: Tensor, weight: Tensor | None
    ) -> Tensor:
        table = _table(label)[_FIRST_VALUE:]
        # Less the score of the first value, in place of which are those of the item's.
        first = torch.zeros_like(items)
        total = full_softmax(query, table, first, self.temperature, mask=counted, weight=weight)
        apart = table[:1] - label(items)
        scores = (query * apart).sum(1) / self.temperature
        scores = scores if weight is None else scores * weight
        return total + scores.masked_fill(~counted, 0.0).sum()

    @property
    def values(self) -> int:
        """Of all features together: what a query is compared with."""
        return sum(len(_table(label)) - _FIRST_VALUE for label in self.labels)


def _table(label: nn.Module) -> Tensor:
    """[values, dim] of a feature."""
    table = label.table
    assert isinstance(table, nn.Embedding | nn.EmbeddingBag)
    return table.weight


def predictable(features: Sequence[ItemFeature]) -> list[ItemFeature]:
    """Those that have values to predict: categorical ones, and those with several values an item."""
    return [
        feature
        for feature in features
        if isinstance(feature, CategoricalFeature | MultiCategoricalFeature)
        and feature.vocabulary_size > _FIRST_VALUE
    ]


def _present(feature: ItemFeature) -> Tensor:
    if isinstance(feature, CategoricalFeature):
        return feature.ids > MISSING
    assert isinstance(feature, MultiCategoricalFeature)
    first = F.pad(feature.values, (0, 1))[feature.offsets[:-1]]
    return (feature.offsets.diff() > 0) & (first > MISSING)
