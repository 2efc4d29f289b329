"""Item vectors with their features: how the embeddings of features join the item's own.

No fusion moves padding: of vectors of zeros, all make zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.data.catalog import ItemCatalog
from models.inputs.config import EmbeddingConfig
from models.inputs.tower import Tower
from models.layers.initialization import init_linear


class Add(nn.Module):
    """The sum of the item embedding and those of all features; without any, the item embedding."""

    def forward(self, items: Tensor, features: Sequence[Tensor], ids: Tensor) -> Tensor:
        """[n, dim] vectors of items.

        Args:
            items: [n, dim] item embeddings.
            features: [n, dim] each, the embeddings of the same items' features.
            ids: [n] int64 ids of the same items.
        """
        return torch.stack([items, *features]).sum(0) if features else items


class Mean(nn.Module):
    """The mean of the item embedding and those of all features (arXiv 2412.00714)."""

    def forward(self, items: Tensor, features: Sequence[Tensor], ids: Tensor) -> Tensor:
        """See `Add.forward`."""
        return torch.stack([items, *features]).sum(0) / (1 + len(features))


class Concat(nn.Module):
    """`W2 relu(W1 [item; feature 1; ...])`, without biases.

    ReLU, since it does the same to vectors of any length: fresh embeddings are so short that smoother
    functions are all but linear there.

    Args:
        features: how many there are.
        dim: width of all embeddings; the MLP is twice as wide within.
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.f1 = nn.Linear((1 + features) * dim, 2 * dim, bias=False)
        self.f2 = nn.Linear(2 * dim, dim, bias=False)
        for layer in (self.f1, self.f2):
            init_linear(layer, None)

    def forward(self, items: Tensor, features: Sequence[Tensor], ids: Tensor) -> Tensor:
        """See `Add.forward`."""
        out: Tensor = self.f2(torch.relu(self.f1(torch.cat([items, *features], dim=-1))))
        return out


class Gated(nn.Module):
    """`item + sum_j sigmoid(W_j [item; feature j] + b_j) * feature j`, a gate for each number.

    Args:
        features: how many there are.
        dim: width of all embeddings.
    """

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(features))
        for gate in self.gates:
            assert isinstance(gate, nn.Linear)
            init_linear(gate, None)

    def forward(self, items: Tensor, features: Sequence[Tensor], ids: Tensor) -> Tensor:
        """See `Add.forward`."""
        total = items
        for gate, feature in zip(self.gates, features, strict=True):
            total = total + torch.sigmoid(gate(torch.cat([items, feature], dim=-1))) * feature
        return total


MakeFusion = Callable[[EmbeddingConfig, ItemCatalog, int, int], nn.Module]

FUSIONS: dict[str, MakeFusion] = {
    "none": lambda config, catalog, features, dim: Add(),
    "attention_only": lambda config, catalog, features, dim: Add(),
    "add": lambda config, catalog, features, dim: Add(),
    "mean": lambda config, catalog, features, dim: Mean(),
    "concat": lambda config, catalog, features, dim: Concat(features, dim),
    "gated": lambda config, catalog, features, dim: Gated(features, dim),
    "tower": lambda config, catalog, features, dim: Tower(config, catalog, features, dim),
}
"""Makes a fusion, by its name in `embedding.features`, of settings, items, number of features and width."""
