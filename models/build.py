"""From settings and a data set to the objects that training, evaluation and serving need."""

from __future__ import annotations

from collections.abc import Sequence

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.config import RunConfig
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from models.data.loading import SequenceSource, ShardSource, TrainLoader
from models.data.loading.domain import domain_number, domain_of
from models.data.versions import dataset_of
from models.distributed.tables import MakeItemTable, WholeTable
from models.evaluation.within import columns_of_candidates
from models.tasks.parts import trained_part
from models.tasks.registry import task_kind
from models.tasks.task import Task

__all__ = ["build_task", "dataset_of", "make_loader", "sequences_of"]


def sequences_of(shards: ShardFolder, config: RunConfig, columns: Columns) -> SequenceSource:
    """The sequences, of the domain that the settings name, or of all; as many stay in memory as they say.

    Args:
        shards: the data.
        config: all settings.
        columns: of batches, as `Task.columns` says.

    Raises:
        UserError: there are no sequences, or the data lack a column or a domain.
    """
    columns = Columns.merged(CORE, columns)
    read = Columns.merged(columns, columns_of_candidates(config.evaluation, shards))
    domain = config.data.domain
    if domain is not None:
        number = domain_number(shards, domain)
        if config.evaluation.target_behavior is not None:
            raise UserError(
                "the targets of one domain are those of the whole data set, and other targets are asked for",
                where=f"evaluation.target_behavior = {config.evaluation.target_behavior}",
                fix="leave it out, or data.domain",
            )
        read = Columns.merged(read, (event_column(shards, "domain"),))
    source = ShardSource(shards, columns=read, cache_bytes=config.loader.cache_mib << 20)
    return source if domain is None else domain_of(source, number, columns)


def make_loader(
    config: RunConfig,
    source: SequenceSource,
    behaviors: Sequence[str],
    *,
    rank: int = 0,
    num_replicas: int = 1,
    pin: bool = False,
) -> TrainLoader:
    """The training batches, one a micro-batch: `train.accumulate` of them a step.

    Raises:
        UserError: see `models.data.loading.TrainLoader`.
    """
    parts, tokens = config.train.accumulate, config.train.batch_tokens
    return TrainLoader(
        trained_part(source, config),
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


def build_task(config: RunConfig, shards: ShardFolder, make_items: MakeItemTable = WholeTable) -> Task:
    """The task that the settings name, with a model of fresh weights on the CPU.

    Args:
        config: all settings.
        shards: the data.
        make_items: makes the table of items, of the number of item ids and a width.

    Raises:
        UserError: there is no such task, a setting does not fit the data, or the model does not fit into
            memory.
    """
    try:
        return task_kind(config.task.kind).build(config, shards, make_items)
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if not any(word in str(error) for word in ("allocate", "verflow")):  # torch has no type for them
            raise
        raise UserError(
            "the model of these settings does not fit into memory",
            where=f"model.dim = {config.model.dim}, {shards.num_item_ids:,} item ids",
            fix="choose a smaller model; 'train.item_table=sharded' divides the items among devices",
        ) from error
