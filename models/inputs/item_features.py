"""Embeddings of item features: one vector an item and feature; padding, item 0, has the zero vector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.data.catalog import CategoricalFeature, ItemFeature, MultiCategoricalFeature, NumericFeature
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.roles import Role


class CategoricalEmbedding(nn.Module):
    """Embedding of a categorical feature."""

    parameter_roles = {"table.weight": Role.FEATURE_TABLE}
    ids: Tensor

    def __init__(self, feature: CategoricalFeature, dim: int) -> None:
        super().__init__()
        self.register_buffer("ids", feature.ids, persistent=False)
        self.table = nn.Embedding(feature.vocabulary_size, dim, padding_idx=0)
        init_embedding(self.table.weight)

    def forward(self, items: Tensor) -> Tensor:
        """[n] item ids -> [n, dim]."""
        return self.table(self.ids[items])


class MultiCategoricalEmbedding(nn.Module):
    """Embedding of a multi-valued categorical feature: the mean of the embeddings of an item's values."""

    parameter_roles = {"table.weight": Role.FEATURE_TABLE}
    values: Tensor
    offsets: Tensor

    def __init__(self, feature: MultiCategoricalFeature, dim: int) -> None:
        super().__init__()
        # One more at the end, so that indices are valid where no item has a value.
        self.register_buffer("values", F.pad(feature.values, (0, 1)), persistent=False)
        self.register_buffer("offsets", feature.offsets, persistent=False)
        self.widest = max(1, int(feature.offsets.diff().max()))
        self.table = nn.EmbeddingBag(feature.vocabulary_size, dim, mode="mean", padding_idx=0)
        init_embedding(self.table.weight)

    def forward(self, items: Tensor) -> Tensor:
        """[n] item ids -> [n, dim]."""
        starts = self.offsets[items]
        lengths = self.offsets[items + 1] - starts
        place = torch.arange(self.widest, device=items.device)
        at = (starts[:, None] + place).clamp(max=len(self.values) - 1)
        # Zeros, padding, are left out of the mean. All rows are padded to one width: the size of ragged ones
        # would have to be read back from the device.
        return self.table(torch.where(place < lengths[:, None], self.values[at], 0))


class NumericEmbedding(nn.Module):
    """Embedding of a numeric feature: a learned vector times the number, and another where it is missing."""

    values: Tensor

    def __init__(self, feature: NumericFeature, dim: int) -> None:
        super().__init__()
        self.register_buffer("values", feature.values, persistent=False)
        self.linear = nn.Linear(2, dim, bias=False)
        init_truncated(self.linear.weight, INIT_STD)

    def forward(self, items: Tensor) -> Tensor:
        """[n] item ids -> [n, dim]."""
        return self.linear(self.values[items])


def embed_feature(feature: ItemFeature, dim: int) -> nn.Module:
    """The module that turns item ids into vectors of this feature."""
    if isinstance(feature, CategoricalFeature):
        return CategoricalEmbedding(feature, dim)
    if isinstance(feature, MultiCategoricalFeature):
        return MultiCategoricalEmbedding(feature, dim)
    return NumericEmbedding(feature, dim)
