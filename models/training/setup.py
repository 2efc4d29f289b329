"""What a training is made of, put together from settings and data in one process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.fabric import Fabric

from behavior.shards.folder import ShardFolder
from models.backbones.backbone import Backbone
from models.build import build_task, dataset_of, make_loader, sequences_of
from models.config import RunConfig
from models.data.loading import TrainLoader
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import WholeTable, item_tables, tables_divided_among
from models.gpu.device import pick_device
from models.optim import OptimizerSet, build_optimizer
from models.tasks.checks import check_evaluator
from models.tasks.task import Evaluator, Task
from models.training.captured_step import CapturedStepper, captures_steps
from models.training.compile import compile_blocks
from models.training.cuda_graph import CudaGraphs
from models.training.fabric import make_fabric
from models.training.step import Stepper


@dataclass(frozen=True)
class Setup:
    """All of it, as it is before the first step."""

    fabric: Fabric
    dataset: dict[str, Any]
    """What a checkpoint remembers of the data; see `models.build.dataset_of`."""
    loader: TrainLoader
    task: Task
    """On the device."""
    evaluator: Evaluator
    optimizer: OptimizerSet
    stepper: Stepper


def set_up(config: RunConfig, shards: ShardFolder, processes: Processes) -> Setup:
    """Put a training together; all processes do so at once.

    Raises:
        UserError: a setting does not fit the data or the devices.
    """
    captures = captures_steps(config, pick_device(config.train.device))
    fabric = make_fabric(config.train, processes, averages=not captures)
    task = _fresh_task(config, shards, fabric, processes)
    sequences = sequences_of(shards, config, task.columns)
    loader = make_loader(
        config,
        sequences,
        shards.manifest.behaviors,
        rank=processes.rank,
        num_replicas=processes.count,
        pin=fabric.device.type == "cuda",
    )
    evaluator = task.evaluator(sequences, config.evaluation)
    check_evaluator(evaluator)
    task.look_at(loader)
    optimizer = build_optimizer(config.optimizer, task.objective)
    if config.train.item_table != "sharded":
        _keep_alike(task, processes)
    if config.train.compile:
        for part in task.model.modules():
            if isinstance(part, Backbone):
                compile_blocks(part, fabric.device)
    clip_norm = config.optimizer.clip_norm
    if captures:
        graphs, longest = CudaGraphs(fabric.device, optimizer), config.model.max_length
        auto = config.train.cuda_graphs == "auto"
        stepper: Stepper = CapturedStepper(
            fabric, task, optimizer, clip_norm, longest, graphs, gives_up=auto, processes=processes
        )
    else:
        stepper = Stepper(fabric, processes, task, optimizer, clip_norm)
    return Setup(
        fabric=fabric,
        dataset=dataset_of(shards),
        loader=loader,
        task=task,
        evaluator=evaluator,
        optimizer=optimizer,
        stepper=stepper,
    )


def _keep_alike(task: Task, processes: Processes) -> None:
    """Have copies of item tables, one a process, average what they find for rows."""
    for table in item_tables(task.objective):
        if isinstance(table, WholeTable) and table.weight.requires_grad and processes.count > 1:
            table.keep_alike(processes)


def _fresh_task(config: RunConfig, shards: ShardFolder, fabric: Fabric, processes: Processes) -> Task:
    fabric.seed_everything(config.train.seed, verbose=False)
    owners = processes if config.train.item_table == "sharded" else SINGLE
    task = build_task(config, shards, tables_divided_among(owners))
    task.objective.to(fabric.device)
    if processes.rank:  # weights are alike everywhere, dropout and negatives are not
        fabric.seed_everything(config.train.seed + processes.rank, verbose=False)
    return task
