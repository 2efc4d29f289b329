"""An item tower: vectors of features, for items with a trained id and for those without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from models.data.catalog import ItemCatalog
from models.inputs.config import EmbeddingConfig
from models.layers.initialization import INIT_STD, init_linear, init_truncated
from models.layers.roles import Role


class Tower(nn.Module):
    """`id + W2 relu(W1 [feature 1; ...])`, where `id` is one learned vector for items never seen in training.

    In training, a share of the look-ups takes that vector in place of the item's own row, so that the
    features learn to stand for themselves (DropoutNet, Volkovs et al., NeurIPS 2017, drops the whole id
    input likewise). Which items have a trained row is kept with the weights: those that occur in the
    training part of what the model has been trained on; a later version's new items have none. In training,
    items without a trained row, which are never a target and often a negative, teach the tower nothing.

    Args:
        config: `id_dropout`; 1: the tower is of features alone.
        catalog: which items occur in the training part.
        features: how many there are.
        dim: width of all embeddings.
    """

    parameter_roles = {"unknown": Role.VECTOR}
    trained: Tensor
    """[item ids] float32: above a half where the item's row has been trained. A number, for the rows of new
    items to be drawn like those of tables, which are near 0."""
    occurs: Tensor
    """[item ids] float32: 1 for items that occur in the training part of this data set."""

    def __init__(self, config: EmbeddingConfig, catalog: ItemCatalog, features: int, dim: int) -> None:
        super().__init__()
        self.dropout, self.first_item = config.tower_dropout, catalog.first_item
        self.f1 = nn.Linear(features * dim, 2 * dim, bias=False)
        self.f2 = nn.Linear(2 * dim, dim, bias=False)
        for layer in (self.f1, self.f2):
            init_linear(layer, None)
        if self.has_ids:
            self.unknown = nn.Parameter(torch.empty(dim))
            init_truncated(self.unknown, INIT_STD)
            occurs = (catalog.train_count > 0).float()
            self.register_buffer("occurs", occurs, persistent=False)
            self.register_buffer("trained", occurs.clone())

    @property
    def has_ids(self) -> bool:
        """Whether rows of the item table are used at all."""
        return self.dropout < 1.0

    def train(self, mode: bool = True) -> Self:
        """Who is trained on this data set learns the rows of its items."""
        if mode and self.has_ids:
            torch.maximum(self.trained, self.occurs, out=self.trained)
        return super().train(mode)

    def forward(self, items: Tensor, features: Sequence[Tensor], ids: Tensor) -> Tensor:
        """See `models.inputs.fusion.Add.forward`; each of the `ids` is dropped or kept by itself."""
        vectors = self.of_features(features)
        if not self.has_ids:
            return vectors
        trained = self.trained[ids] > 0.5
        known = trained
        if self.training and self.dropout > 0:
            known = known & (torch.rand(len(ids), device=ids.device) >= self.dropout)
        unknown = torch.where((ids > 0)[:, None], self.unknown, 0.0)
        vectors = vectors + torch.where(known[:, None], items, unknown)
        if self.training:
            # They would only teach that what has no id is never a target.
            vectors = torch.where((trained | (ids < self.first_item))[:, None], vectors, vectors.detach())
        return vectors

    def of_features(self, features: Sequence[Tensor]) -> Tensor:
        """[n, dim] of [n, dim] vectors of each feature, without any id."""
        out: Tensor = self.f2(torch.relu(self.f1(torch.cat(list(features), dim=-1))))
        return out
