"""The input of a backbone: events of a batch as token vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.side import SideInformation, choose
from models.data.versions import RowMaps
from models.distributed.tables import ItemTable, MakeItemTable, WholeTable
from models.inputs.config import EmbeddingConfig
from models.inputs.domains import DomainEmbedding
from models.inputs.event_features import EventFeatures
from models.inputs.fusion import FUSIONS
from models.inputs.item_features import FeatureEmbeddings, grown_tables
from models.inputs.layout import Layout, Sizes
from models.inputs.layouts import make_layout
from models.inputs.layouts.user_context import WithUserContext
from models.inputs.tokens import Tokens
from models.inputs.tower import Tower
from models.layers.dropout import Dropout
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.look_up import Embedding, look_up
from models.layers.roles import Role
from models.layers.token_rows import add_rows

NO_SIDE = SideInformation()


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
        scale_dim: the dim of `sqrt(dim)` and `sqrt(1 / dim)`, where it is not that of the vectors.
        make_items: makes the item table, of the number of item ids and a width.
        side: the features of users and events that `config` names, and the domains.
        layout: in place of the one that `config` names, with what a task alone makes sense of.

    Raises:
        UserError: features are asked for that there are not; or the layout is not known, or does not fit the
            data or the other settings.
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
        scale_dim: int | None = None,
        make_items: MakeItemTable = WholeTable,
        side: SideInformation = NO_SIDE,
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        _check_side(config, side)
        features = choose(catalog.features, config.item_features, "item") if config.features != "none" else []
        _check_attributes(config, len(features), len(side.events), has_positions=learned_positions)
        self.config, self.num_behaviors, self.dim = config, num_behaviors, dim
        self.scale = math.sqrt(scale_dim or dim) if scale_items else 1.0
        self.layout: Layout = layout or make_layout(config.layout, Sizes(dim, num_behaviors))
        needed = self.layout.vectors
        _check_behaviors(config, needed)
        self.item = self._item_table(make_items, catalog.num_item_ids, dim)
        self.features = FeatureEmbeddings(features, dim, config.max_feature_values)
        self.fusion = FUSIONS[config.features](config, catalog, len(features), dim)
        self.scores_ids = config.features == "attention_only" or config.features_on == "input"
        """Whether item vectors of scoring are ids alone."""
        has_behavior = config.behaviors == "add" or not needed.isdisjoint({"behavior", "next_behavior"})
        asks_behavior = config.query_behavior == "add" or "query_behavior" in needed
        self.behavior = _behavior_table(num_behaviors, dim) if has_behavior else None
        self.query_behavior = _behavior_table(num_behaviors, dim) if asks_behavior else None
        position_std = math.sqrt(1.0 / (scale_dim or dim)) if scale_items else INIT_STD
        self.events = EventFeatures(side.events, dim)
        self.domains = DomainEmbedding(config, side.domains, dim)
        if side.users:
            self.layout = WithUserContext(self.layout, side.users, dim, config.max_feature_values)
        positions = self.layout.max_tokens(max_length)
        self.position = _position_table(positions, dim, position_std) if learned_positions else None
        self.dropout = Dropout(dropout)

    def _item_table(self, make_items: MakeItemTable, count: int, dim: int) -> ItemTable:
        """The table of items; where a tower goes without ids, zeros that are never trained."""
        if self.config.features != "tower" or self.config.tower_dropout < 1.0:
            return make_items(count, dim)
        table = make_items(count, 1)
        if table.is_divided:
            raise UserError(
                "an item tower without ids has no item table to divide",
                where="train.item_table = sharded",
                fix="set train.item_table=replicated, or embedding.id_dropout below 1",
            )
        nn.init.zeros_(table.weight).requires_grad_(False)
        return table

    def forward(self, batch: PackedBatch, tokens: Tokens | None = None) -> tuple[Tensor, Tokens]:
        """[tokens, dim] token vectors, and what the backbone is told of them.

        Args:
            batch: the events.
            tokens: of these; by default as the layout makes them.
        """
        tokens = self.layout.tokens(batch) if tokens is None else tokens
        x = self.layout.arrange(self.event_vectors(batch), tokens, batch)
        x = self.domains.add_asked(x, tokens, batch)
        if self.num_attributes:
            tokens = replace(tokens, attributes=self.attributes(batch, tokens))
        if self.position is None or self.places_attention_only:
            return self.dropout(x * self.scale), tokens
        return add_rows(x, self.position, tokens.position, self.scale, self.dropout), tokens

    def places(self, tokens: Tokens) -> Tensor:
        """[tokens, dim] position embeddings."""
        assert self.position is not None
        return look_up(tokens.position, self.position)

    def grown(self, maps: RowMaps) -> Iterator[tuple[Tensor, Tensor]]:
        """Tables with a row an item, a behavior, a domain, a value of a feature; their rows out of `maps`."""
        yield self.item.weight, maps.items
        if isinstance(self.fusion, Tower) and self.fusion.has_ids:
            yield self.fusion.trained, maps.items
        for table in (self.behavior, self.query_behavior):
            if table is not None:
                yield table.weight, maps.behaviors
        for weight in self.domains.weights():
            yield weight, maps.domains
        kinds: list[tuple[str, FeatureEmbeddings | EventFeatures]] = [
            ("", self.features),
            ("event.", self.events),
        ]
        if isinstance(self.layout, WithUserContext):
            kinds.append(("user.", self.layout.users))
        for prefix, features in kinds:
            yield from grown_tables(features, features.names, maps.features, prefix)

    def event_vectors(self, batch: PackedBatch) -> dict[str, Tensor]:
        """[events, dim] each: `item`, and what there is of `behavior`, `next_behavior`, `query_behavior`."""
        vectors = {"item": self.domains.add_own(self.input_vectors(batch), batch)}
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
        own = CORE.select(*(name for name in read if read[name]))
        return Columns.merged(own, self.layout.columns, self.events.columns, self.domains.columns)

    @property
    def num_attributes(self) -> int:
        """What goes into queries and keys alone: features of an event, and positions."""
        features = len(self.features) + len(self.events) if self.config.features == "attention_only" else 0
        return features + self.places_attention_only

    @property
    def places_attention_only(self) -> bool:
        """Whether positions go into queries and keys alone."""
        return self.config.positions == "attention_only"

    def attributes(self, batch: PackedBatch, tokens: Tokens) -> tuple[Tensor, ...]:
        """[tokens, dim] each: what queries and keys are told of the features of a token's event (DIF-SR).

        Features are scaled as items are; of tokens that hold no item, they are zeros.
        """
        places = [self.places(tokens)] if self.places_attention_only else []
        if self.config.features != "attention_only":
            return tuple(places)
        vectors = [vectors * self.scale for vectors in (*self.features(batch.item), *self.events(batch))]
        return (*(tokens.of_items(each) for each in vectors), *places)

    def input_vectors(self, batch: PackedBatch) -> Tensor:
        """[events, dim] of the items of events, with their features and those of the events themselves."""
        if self.config.features == "attention_only":
            return self.item(batch.item)
        vectors: Tensor = self.fusion(self.item(batch.item), self.features(batch.item), batch.item)
        for feature in self.events(batch):
            vectors = vectors + feature
        return vectors

    def item_vectors(self, ids: Tensor | None = None, looked_up: Tensor | None = None) -> Tensor:
        """[n, dim] vectors of items that queries are scored against: with features, where `config` says so.

        Args:
            ids: [n] int64 item ids; by default those whose rows this process has (`ItemTable.own_ids`): all,
                from 0 on, where the table is whole.
            looked_up: [n, dim] their rows of the item table, where these were looked up before.
        """
        if looked_up is not None:
            items = looked_up
        else:
            items = self.item.own_rows() if ids is None else self.item(ids)
        if self.scores_ids:
            return items
        ids = self.item.own_ids if ids is None else ids
        vectors: Tensor = self.fusion(items, self.features(ids), ids)
        return vectors

    def item_view(self, ids: Tensor, keep: Tensor, drop: float = 0.0) -> Tensor:
        """[n, dim] vectors of items by some of their features alone, without their ids.

        Args:
            ids: [n] int64 item ids.
            keep: [features] float: 1 for those that count, 0 for others.
            drop: share of the values that features of several leave out at random.
        """
        features = [kept * vectors for kept, vectors in zip(keep, self.features(ids, drop), strict=True)]
        if isinstance(self.fusion, Tower):
            return self.fusion.of_features(features)
        vectors: Tensor = self.fusion(torch.zeros_like(features[0]), features, ids)
        return vectors


def _check_attributes(config: EmbeddingConfig, features: int, events: int, *, has_positions: bool) -> None:
    """Raise UserError where there is nothing to fuse, or no position."""
    if config.positions == "attention_only" and not has_positions:
        raise UserError(
            "this backbone has no learned positions that attention alone could see",
            where="embedding.positions = attention_only",
            fix="leave it out, or set model.learned_positions=true",
        )
    needs = config.features not in ("none", "attention_only")
    if (needs and not features) or (config.features == "attention_only" and not features + events):
        raise UserError(
            "there are no features to fuse",
            where=f"embedding.features = {config.features}",
            fix="name some in embedding.item_features, or set embedding.features=none",
        )


def _check_side(config: EmbeddingConfig, side: SideInformation) -> None:
    """Raise UserError where features are named and not given: then the task is not made for them."""
    if config.domain_setting and side.domains is None:
        raise UserError(
            "this task gives its model no domains",
            where=config.domain_setting,
            fix="pass side=side_information(settings, shards) of models.tasks.parts, or leave it out",
        )
    for name, given in (("user_features", side.users), ("event_features", side.events)):
        if getattr(config, name) and not given:
            raise UserError(
                f"this task gives its model no {name.replace('_', ' ')}",
                where=f"embedding.{name}",
                fix="pass side=side_information(settings, shards) of models.tasks.parts, or leave it out",
            )


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
    table = Embedding(num_behaviors + 1, dim, padding_idx=0)
    init_embedding(table.weight)
    return table


def _position_table(size: int, dim: int, std: float) -> nn.Parameter:
    table = nn.Parameter(torch.empty(size, dim))
    init_truncated(table, std)
    return table
