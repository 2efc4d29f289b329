"""The embedding table of items: what it has to do, and the one that is whole on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from models.layers.initialization import init_embedding


class ItemTable(Protocol):
    """An `nn.Module` with a row an item id; row 0, padding, is zero and has no gradient.

    All rows may be in one place, or be divided among processes.
    """

    num_embeddings: int
    """Item ids, padding included."""
    embedding_dim: int

    @property
    def weight(self) -> Tensor:
        """[rows held by this process, dim]."""

    def __call__(self, ids: Tensor) -> Tensor:
        """[n, dim] rows of [n] int64 item ids, wherever they are."""


MakeItemTable = Callable[[int, int], ItemTable]
"""Makes a table of a number of item ids and a width."""


def item_table(num_item_ids: int, dim: int) -> nn.Embedding:
    """A table that is whole on this device, with fresh weights."""
    table = nn.Embedding(num_item_ids, dim, padding_idx=0)
    init_embedding(table.weight)
    return table
