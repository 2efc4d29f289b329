"""The parts that models of most tasks begin with: input embedding and backbone, by all of their settings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from behavior.shards.folder import ShardFolder
from models.backbones import build_backbone, check_time_bias
from models.data.catalog import ItemCatalog
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from models.data.loading import SequenceSource, ShardSource
from models.data.loading.domain import domain_number, domain_of
from models.data.loading.fraction import fraction_of
from models.data.loading.inputs import inputs_of
from models.data.loading.part import count_items, part_of
from models.data.side import Domains, SideInformation
from models.data.tables_only import has_sequences
from models.distributed.tables import MakeItemTable, WholeTable
from models.inputs.embedding import NO_SIDE, InputEmbedding
from models.tasks.config import TaskSettings


def trained_events(settings: TaskSettings, shards: ShardFolder) -> SequenceSource:
    """The sequences whose training parts are what a training sees: of its domain, part, fraction and input
    behaviors.

    Nothing of it stays in memory.

    Raises:
        UserError: the data set lacks the domain, or a behavior.
    """
    domain = settings.data.domain
    if domain is None:
        source: SequenceSource = ShardSource(shards, cache_bytes=0)
    else:
        number = domain_number(shards, domain)
        columns = Columns.merged(CORE, (event_column(shards, "domain"),))
        source = domain_of(ShardSource(shards, columns=columns, cache_bytes=0), number, CORE)
    return trained_part(source, settings)


def trained_part(source: SequenceSource, settings: TaskSettings) -> SequenceSource:
    """The sequences of a source with the training parts that a training sees: of its part, its fraction of
    the data and its input behaviors.

    For what learns from them, and for nothing else: an evaluation needs to know where targets are. Where the
    settings ask for all of the training part it is the source itself.

    Raises:
        UserError: the data set lacks a behavior, or the time that the fraction is measured by.
    """
    part = part_of(source, settings.loader.part)
    fraction = fraction_of(part, settings.data.fraction, settings.data.fraction_by)
    return inputs_of(fraction, settings.model.input_behaviors)


def read_catalog(settings: TaskSettings, shards: ShardFolder) -> ItemCatalog:
    """The items of a data set, counted in the events that are trained on (`trained_events`).

    Goes through all sequences where these are not all of the training part. Where there are no sequences, in
    serving, the counts are those of the table: only training looks at them.

    Raises:
        UserError: see `ItemCatalog.from_shards` and `trained_events`.
    """
    data = settings.data
    every = settings.model.input_behaviors == "all" and data.domain is None and data.fraction == 1.0
    if (settings.loader.part == "train" and every) or not has_sequences(shards):
        return ItemCatalog.from_shards(shards)
    counts = count_items(trained_events(settings, shards))
    return ItemCatalog.from_shards(shards, torch.from_numpy(counts))


def embedding_and_backbone(
    settings: TaskSettings,
    catalog: ItemCatalog,
    *,
    num_behaviors: int,
    has_time: bool,
    make_items: MakeItemTable = WholeTable,
    side: SideInformation = NO_SIDE,
    make_embedding: Callable[..., InputEmbedding] = InputEmbedding,
) -> tuple[InputEmbedding, nn.Module]:
    """Both with fresh weights, on the CPU; every setting of `model` and `embedding` is followed.

    `x, tokens = embedding(batch)`, then `tokens.queries(backbone(x, tokens))` is [events, dim]: what is known
    after each event. A model keeps the first as `embedding`, where `Task` looks for the columns that are
    read and the lengths in tokens.

    Args:
        settings: all settings.
        catalog: the items.
        num_behaviors: ids 1..num_behaviors.
        has_time: whether events have timestamps.
        make_items: makes the table of items, of the number of item ids and a width.
        side: the features of users and events that settings name (`side_information`).
        make_embedding: makes the input embedding, of what `InputEmbedding` is made of.

    Raises:
        UserError: a time bias on data without time, or a setting that does not fit the data.
    """
    model = settings.model
    check_time_bias(model, has_time=has_time)
    embedding = make_embedding(
        settings.embedding,
        catalog,
        num_behaviors=num_behaviors,
        dim=model.dim,
        max_length=model.max_length,
        dropout=model.input_dropout_rate,
        learned_positions=model.has_learned_positions,
        scale_items=model.scales_input,
        scale_dim=None if model.transfer.rule == "none" else model.transfer.base_dim,
        make_items=make_items,
        side=side,
    )
    max_tokens = embedding.layout.max_tokens(model.max_length)
    backbone = build_backbone(
        model,
        max_length=model.max_length,
        max_tokens=max_tokens,
        # Tokens of context stand in front of any number of events.
        tokens_per_event=max(embedding.layout.max_tokens(model.max_length + 1) - max_tokens, 1),
        attributes=embedding.num_attributes,
        attribute_dim=settings.embedding.attribute_dim,
    )
    return embedding, backbone


def side_information(settings: TaskSettings, shards: ShardFolder) -> SideInformation:
    """The features of users and events that the settings name, and the domains, where they are embedded.

    Raises:
        UserError: the data set lacks one.
    """
    embedding = settings.embedding
    setting = embedding.domain_setting
    return SideInformation.from_shards(
        shards,
        users=embedding.user_features,
        events=embedding.event_features,
        domains=Domains.from_shards(shards, setting) if setting else None,
    )
