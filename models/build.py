"""From settings and a data set to the objects a run is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from behavior.shards.folder import ShardFolder
from models.backbones import build_backbone, check_time_bias
from models.config import RunConfig
from models.data.about import About, about_sequences
from models.data.catalog import ItemCatalog
from models.data.digest import dataset_digest
from models.data.loading import SequenceSource, TrainLoader
from models.distributed.processes import SINGLE, Processes
from models.distributed.sharding import ShardedEmbedding
from models.inputs.embedding import InputEmbedding
from models.inputs.item_table import ItemTable, item_table
from models.losses import RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.retrieval import RetrievalModel, RetrievalObjective


def dataset_of(shards: ShardFolder) -> dict[str, Any]:
    """What a checkpoint remembers of its data set."""
    return {
        "name": shards.manifest.name,
        "digest": dataset_digest(shards),
        "item_ids": shards.num_item_ids,
        "behaviors": len(shards.manifest.behaviors),
    }


def time_setting(config: RunConfig, about: About) -> str:
    """Whether queries know the time of what they predict: `known`, `unknown`; `none` without timestamps."""
    return config.model.time if about.has_time else "none"


def make_loader(
    config: RunConfig,
    source: SequenceSource,
    behaviors: Sequence[str],
    *,
    rank: int = 0,
    num_replicas: int = 1,
    pin: bool = False,
) -> TrainLoader:
    """The training batches, `train.accumulate` of them a step.

    Raises:
        UserError: see `models.data.loading.TrainLoader`.
    """
    parts, tokens = config.train.accumulate, config.train.batch_tokens
    return TrainLoader(
        source,
        config.loader,
        max_length=config.model.max_length,
        batch_sequences=config.train.batch_sequences // parts,
        batch_tokens=None if tokens is None else tokens // parts,
        behaviors=tuple(behaviors),
        time=config.model.time,
        loss_on=config.loss.loss_on,
        seed=config.train.seed,
        epochs=config.train.epochs,
        rank=rank,
        num_replicas=num_replicas,
        pin=pin,
    )


def build_model(
    config: RunConfig,
    catalog: ItemCatalog,
    *,
    num_behaviors: int,
    has_time: bool,
    make_items: Callable[[int, int], ItemTable] = item_table,
) -> RetrievalModel:
    """A model with fresh weights, on the CPU.

    Args:
        config: all settings.
        catalog: the items.
        num_behaviors: ids 1..num_behaviors.
        has_time: whether events have timestamps.
        make_items: makes the table of items, of the number of item ids and a width.

    Raises:
        UserError: a time bias on data without time, or a setting that does not fit the data.
    """
    check_time_bias(config.model, has_time=has_time)
    model = config.model
    embedding = InputEmbedding(
        config.embedding,
        catalog,
        num_behaviors=num_behaviors,
        dim=model.dim,
        max_length=model.max_length,
        dropout=model.input_dropout_rate,
        learned_positions=model.has_learned_positions,
        scale_items=model.scales_input,
        make_items=make_items,
    )
    max_tokens = embedding.layout.max_tokens(model.max_length)
    backbone = build_backbone(model, max_length=model.max_length, max_tokens=max_tokens)
    num_items = catalog.num_item_ids - catalog.first_item
    return RetrievalModel(
        embedding,
        backbone,
        first_item=catalog.first_item,
        num_items=num_items,
        normalize=config.loss.normalize,
    )


def build_objective(
    config: RunConfig, shards: ShardFolder, divide_items_among: Processes = SINGLE
) -> RetrievalObjective:
    """A model with fresh weights and its loss, on the CPU.

    Args:
        config: all settings.
        shards: the data.
        divide_items_among: the processes among which rows of the item table are divided.
    """
    catalog = ItemCatalog.from_shards(shards)
    about = about_sequences(shards)

    def make_items(num_item_ids: int, dim: int) -> ItemTable:
        return (
            item_table(num_item_ids, dim)
            if divide_items_among.count == 1
            else ShardedEmbedding(num_item_ids, dim, divide_items_among)
        )

    model = build_model(
        config, catalog, num_behaviors=about.num_behaviors, has_time=about.has_time, make_items=make_items
    )
    sampler = NegativeSampler(catalog.train_count, catalog.first_item, config.loss.negatives.popularity_power)
    return RetrievalObjective(model, RetrievalLoss(config.loss, sampler, model.held_items))
