"""What goes into a backbone: items, their features, behaviors and positions as vectors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.distributed.sharding import ShardedEmbedding
from models.inputs.config import EmbeddingConfig
from models.inputs.item_features import INIT_STD, embed_feature, init_embedding
from models.layers.dropout import Dropout

ItemTable = nn.Embedding | ShardedEmbedding


def item_table(num_item_ids: int, dim: int) -> ItemTable:
    """A table of items in one place, with fresh weights."""
    table = nn.Embedding(num_item_ids, dim, padding_idx=0)
    init_embedding(table.weight)
    return table


class InputEmbedding(nn.Module):
    """`dropout(sqrt(dim) * (item [+ behavior] [+ asked behavior]) + position)`.

    That is the input of HSTU (arXiv 2402.17152) and of SASRec (arXiv 1808.09781). Items: normal(0, 0.02)
    truncated at two standard deviations, positions: the same with `sqrt(1 / dim)`. Position 0 is the oldest
    event of the window. Row 0 of every table but positions is zero and stays so.

    Args:
        config: what is embedded.
        catalog: the items.
        num_behaviors: how many behaviors there are; ids 1..num_behaviors.
        dim: width of the vectors.
        max_length: number of positions.
        dropout: probability, on the sum.
        learned_positions: whether positions are added; Llama has none.
        scale_items: whether item vectors are multiplied by `sqrt(dim)`. Where not, as in GPT, positions are
            as small as items at first.
        make_items: makes the table of items, of the number of item ids and a width.

    Raises:
        UserError: item features are asked for and there are none.
    """

    def __init__(
        self,
        config: EmbeddingConfig,
        catalog: ItemCatalog,
        num_behaviors: int,
        dim: int,
        max_length: int,
        dropout: float,
        *,
        learned_positions: bool = True,
        scale_items: bool = True,
        make_items: Callable[[int, int], ItemTable] = item_table,
    ) -> None:
        super().__init__()
        if config.features != "none" and not catalog.features:
            raise UserError(
                "the data set has no item features to embed",
                where=f"embedding.features = {config.features}",
                fix="--set embedding.features=none, or prepare the data with an item table",
            )
        self.config = config
        self.scale = math.sqrt(dim) if scale_items else 1.0
        self.item = make_items(catalog.num_item_ids, dim)
        used = catalog.features if config.features != "none" else ()
        self.features = nn.ModuleList(embed_feature(feature, dim) for feature in used)
        self.behavior = _behavior_table(num_behaviors, dim) if config.behaviors == "add" else None
        self.query_behavior = _behavior_table(num_behaviors, dim) if config.query_behavior == "add" else None
        position_std = math.sqrt(1.0 / dim) if scale_items else INIT_STD
        self.position = _position_table(max_length, dim, position_std) if learned_positions else None
        self.dropout = Dropout(dropout)

    def forward(self, batch: PackedBatch) -> Tensor:
        """[tokens, dim] from the item, behavior and position of each event."""
        events = self.item_vectors(batch.item)
        if self.behavior is not None:
            events = events + self.behavior(batch.behavior)
        if self.query_behavior is not None:
            # Like the known time: a property of the question, in training and evaluation alike.
            events = events + self.query_behavior(batch.target_behavior)
        events = events * self.scale
        if self.position is not None:
            # Not `position[...]`, whose gradient depends on the order of threads.
            events = events + F.embedding(batch.position, self.position)
        return self.dropout(events)

    @property
    def sharded_items(self) -> ShardedEmbedding | None:
        """The table of items, where it is divided among processes."""
        return self.item if isinstance(self.item, ShardedEmbedding) else None

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[n, dim] vectors of items, features included: the same for input and for scoring.

        Args:
            ids: [n] int64 item ids; all ids, from 0 on, by default.
        """
        if ids is None:
            # Looked up rather than the table itself, so that padding gets no gradient.
            ids = torch.arange(self.item.num_embeddings, device=self.item.weight.device)
        return self._with_features(self.item(ids), ids)

    def held_vectors(self, first: int) -> Tensor:
        """[n, dim] vectors of the items from id `first` on that this process holds, in order."""
        table = self.sharded_items
        assert table is not None
        ids = table.shards.held(first, table.weight.device)
        return self._with_features(table.held(ids), ids)

    def _with_features(self, rows: Tensor, ids: Tensor) -> Tensor:
        if not self.features:
            return rows
        vectors = [rows, *(embed(ids) for embed in self.features)]
        total = torch.stack(vectors).sum(0)
        return total / len(vectors) if self.config.features == "mean" else total


def _behavior_table(num_behaviors: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(num_behaviors + 1, dim, padding_idx=0)
    init_embedding(table.weight)
    return table


def _position_table(size: int, dim: int, std: float) -> nn.Parameter:
    table = nn.Parameter(torch.empty(size, dim))
    nn.init.trunc_normal_(table, std=std, a=-2 * std, b=2 * std)
    return table
