"""Item vectors with their features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from models.data.catalog import ItemFeature
from models.inputs.item_features import embed_feature


class FeatureFusion(nn.ModuleList):
    """The embeddings of item features, and how they join the item's own.

    Args:
        features: of the catalog; none of them: an item is its own embedding alone.
        dim: width of all embeddings.
        mode: `add`: the sum of the item embedding and those of all features; `mean`: their mean.
        max_values: of an item's values of a feature, such as the words of a text, how many count; None: all.
    """

    def __init__(
        self,
        features: Iterable[ItemFeature],
        dim: int,
        mode: Literal["add", "mean"],
        max_values: int | None = None,
    ) -> None:
        features = tuple(features)
        super().__init__(embed_feature(feature, dim, max_values) for feature in features)
        self.names = [feature.name for feature in features]
        self.mode = mode

    def forward(self, items: Tensor, ids: Tensor) -> Tensor:
        """[n, dim] vectors of items.

        Args:
            items: [n, dim] item embeddings.
            ids: [n] int64 item ids of the same items.
        """
        if len(self) == 0:
            return items
        vectors = [items, *(embed(ids) for embed in self)]
        total = torch.stack(vectors).sum(0)
        return total / len(vectors) if self.mode == "mean" else total
