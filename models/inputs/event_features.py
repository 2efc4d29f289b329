"""Embeddings of features of events: one vector an event and feature."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.side import EventFeature
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.look_up import Embedding
from models.layers.roles import Role


class CategoricalColumn(nn.Module):
    """Embedding of a categorical feature, hashed values and buckets among them."""

    parameter_roles = {"table.weight": Role.FEATURE_TABLE}

    def __init__(self, feature: EventFeature, dim: int) -> None:
        super().__init__()
        self.table = Embedding(feature.entry.vocabulary_size or 0, dim, padding_idx=0)
        init_embedding(self.table.weight)

    def forward(self, values: Tensor) -> Tensor:
        """[events] ids -> [events, dim]."""
        return self.table(values)


class NumericColumn(nn.Module):
    """A learned vector times the number, and another where it is missing (NaN)."""

    def __init__(self, feature: EventFeature, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2, dim, bias=False)
        init_truncated(self.linear.weight, INIT_STD)

    def forward(self, values: Tensor) -> Tensor:
        """[events] numbers -> [events, dim]."""
        missing = values.isnan()
        return self.linear(torch.stack([values.masked_fill(missing, 0.0), missing.to(values.dtype)], dim=-1))


class EventFeatures(nn.ModuleList):
    """The embeddings of features of events; none of them reads what is to be predicted.

    Args:
        features: which ones.
        dim: width of all embeddings.
    """

    def __init__(self, features: Iterable[EventFeature], dim: int) -> None:
        features = tuple(features)
        super().__init__(
            (NumericColumn if feature.entry.kind == "numeric" else CategoricalColumn)(feature, dim)
            for feature in features
        )
        self.names = [feature.entry.name for feature in features]
        self.columns = Columns(tuple(feature.column for feature in features))

    def forward(self, batch: PackedBatch) -> list[Tensor]:
        """[events, dim] vectors of each feature."""
        return [embed(batch[column.name]) for embed, column in zip(self, self.columns, strict=True)]
