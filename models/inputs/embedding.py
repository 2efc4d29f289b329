"""The input of a backbone: events of a batch as token vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.columns import Columns
from models.data.declared import CORE
from models.distributed.tables import MakeItemTable, WholeTable
from models.inputs.config import EmbeddingConfig
from models.inputs.fusion import FeatureFusion
from models.inputs.layout import Sizes
from models.inputs.layouts import make_layout
from models.inputs.tokens import Tokens
from models.layers.dropout import Dropout
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.roles import Role


class InputEmbedding(nn.Module):
    """`dropout(sqrt(dim) * token + position)`, of tokens that the layout makes of items and behaviors.

    That is the input of HSTU (arXiv 2402.17152) and of SASRec (arXiv 1808.09781). Items: normal(0, 0.02)
    truncated at two standard deviations, positions: the same with `sqrt(1 / dim)`. Position 0 is the oldest
    of the window. Row 0 of every table but positions is padding, zero, and stays so.

    Args:
        config: what is embedded, and the layout.
        catalog: the items.
        num_behaviors: how many behaviors there are; ids 1..num_behaviors.
        dim: width of the vectors.
        max_length: most events of a sequence; the layout says how many positions these take.
        dropout: probability, on the sum.
        learned_positions: whether positions are added; Llama has none.
        scale_items: whether item vectors are multiplied by `sqrt(dim)`. Where not, as in GPT, positions are
            as small as items at first.
        make_items: makes the item table, of the number of item ids and a width.

    Raises:
        UserError: item features are asked for and there are none; or the layout is not known, or does not fit
            the data or the other settings.
    """

    parameter_roles = {"position": Role.EMBEDDING}

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
        make_items: MakeItemTable = WholeTable,
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
        self.layout = make_layout(config.layout, Sizes(dim, num_behaviors))
        needed = self.layout.vectors
        _check_behaviors(config, needed)
        self.item = make_items(catalog.num_item_ids, dim)
        self.features = (
            FeatureFusion((), dim, "add")
            if config.features == "none"
            else FeatureFusion(catalog.features, dim, config.features, config.max_feature_values)
        )
        has_behavior = config.behaviors == "add" or not needed.isdisjoint({"behavior", "next_behavior"})
        asks_behavior = config.query_behavior == "add" or "query_behavior" in needed
        self.behavior = _behavior_table(num_behaviors, dim) if has_behavior else None
        self.query_behavior = _behavior_table(num_behaviors, dim) if asks_behavior else None
        position_std = math.sqrt(1.0 / dim) if scale_items else INIT_STD
        positions = self.layout.max_tokens(max_length)
        self.position = _position_table(positions, dim, position_std) if learned_positions else None
        self.dropout = Dropout(dropout)

    def forward(self, batch: PackedBatch) -> tuple[Tensor, Tokens]:
        """[tokens, dim] token vectors, and what the backbone is told of them."""
        tokens = self.layout.tokens(batch)
        x = self.layout.arrange(self.event_vectors(batch), tokens, batch) * self.scale
        if self.position is not None:
            # Not `position[...]`, whose gradient depends on the order of threads.
            x = x + F.embedding(tokens.position, self.position)
        return self.dropout(x), tokens

    def event_vectors(self, batch: PackedBatch) -> dict[str, Tensor]:
        """[events, dim] each: `item`, and what there is of `behavior`, `next_behavior`, `query_behavior`."""
        vectors = {"item": self.item_vectors(batch.item)}
        if self.behavior is not None:
            vectors["behavior"] = self.behavior(batch.behavior)
            if "next_behavior" in self.layout.vectors:
                vectors["next_behavior"] = self.behavior(batch.target_behavior)
        if self.query_behavior is not None:
            # Like the known time: a property of the question, in training and evaluation alike.
            vectors["query_behavior"] = self.query_behavior(batch.target_behavior)
        return vectors

    @property
    def is_told_behavior(self) -> bool:
        """Whether queries are told the behavior of the event to predict, and answer for that one."""
        return self.query_behavior is not None or "next_behavior" in self.layout.vectors

    @property
    def columns(self) -> Columns:
        """Columns of the batch that are read."""
        read = {"item": True, "behavior": self.behavior is not None, "target_behavior": self.is_told_behavior}
        return Columns.merged(CORE.select(*(name for name in read if read[name])), self.layout.columns)

    def item_vectors(self, ids: Tensor | None = None) -> Tensor:
        """[n, dim] vectors of items, features included: the same for input and for scoring.

        Args:
            ids: [n] int64 item ids; by default those whose rows this process has (`ItemTable.own_ids`): all,
                from 0 on, where the table is whole.
        """
        if ids is None:
            return self.features(self.item.own_rows(), self.item.own_ids)
        return self.features(self.item(ids), ids)


def _check_behaviors(config: EmbeddingConfig, needed: frozenset[str]) -> None:
    """Raise UserError where behaviors would be embedded twice."""
    twice = {
        "behaviors": ({"behavior"}, "has a token, or a part of one, for each behavior itself"),
        "query_behavior": (
            {"next_behavior", "query_behavior"},
            "has a token for the wanted behavior itself",
        ),
    }
    for setting, (vectors, why) in twice.items():
        if getattr(config, setting) == "add" and not needed.isdisjoint(vectors):
            raise UserError(
                f"layout '{config.layout}' {why}",
                where=f"embedding.{setting} = add",
                fix=f"--set embedding.{setting}=none, or --set embedding.layout=event",
            )


def _behavior_table(num_behaviors: int, dim: int) -> nn.Embedding:
    table = nn.Embedding(num_behaviors + 1, dim, padding_idx=0)
    init_embedding(table.weight)
    return table


def _position_table(size: int, dim: int, std: float) -> nn.Parameter:
    table = nn.Parameter(torch.empty(size, dim))
    init_truncated(table, std)
    return table
