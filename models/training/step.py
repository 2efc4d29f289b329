"""One optimizer step with gradient accumulation, on one device or on each of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric

from models.data.batch import PackedBatch
from models.data.loading import TrainLoader
from models.distributed.processes import Processes
from models.distributed.tables import clip_grad_norm, item_tables
from models.optim import OptimizerSet
from models.tasks.checks import check_loss
from models.tasks.flops import StepWork
from models.tasks.loss_batch import LossBatch
from models.tasks.task import Task
from models.training.fabric import keep_out_of_averaging


@dataclass(frozen=True)
class TakenStep:
    """The result of a step; its tensors stay on the device, and reading them synchronizes."""

    number: int
    """From 1."""
    epoch: int
    """From 0."""
    parts: list[PackedBatch]
    """This process's micro-batches, on the host."""
    losses: list[torch.Tensor]
    """Of each micro-batch: scalars. Summed over micro-batches and averaged over processes: the step's mean
    loss."""
    gradient_norm: torch.Tensor | None
    """Before clipping; none where nothing is clipped."""
    learning_rate: float
    work: StepWork
    """Of all processes together."""


class Stepper:
    """Takes optimizer steps.

    Args:
        fabric: of this process.
        processes: all of them.
        task: its objective is on the device.
        optimizer: of the objective's parameters.
        clip_norm: maximum gradient norm; None: gradients are not clipped.
    """

    def __init__(
        self,
        fabric: Fabric,
        processes: Processes,
        task: Task,
        optimizer: OptimizerSet,
        clip_norm: float | None,
    ) -> None:
        self.fabric, self.processes = fabric, processes
        self.optimizer, self.clip_norm = optimizer, clip_norm
        self.task = task
        self.item_tables = item_tables(task.objective)
        keep_out_of_averaging(task.objective, self.collected)
        self.module = fabric.setup_module(task.objective)
        if fabric.device.type == "cuda":
            # Fabric sends the first process's weights on a stream of its own, and nothing that comes next,
            # such as those of a checkpoint, would wait for them.
            torch.cuda.synchronize(fabric.device)

    def take(self, parts: list[PackedBatch], number: int, epoch: int) -> TakenStep | None:
        """Update the weights by the gradient of the mean loss over the positions of all parts and processes.

        Where positions have weights in the loss (`LossBatch.weight`) that is the weighted mean.

        Args:
            parts: this process's micro-batches.
            number: of the step, from 1.
            epoch: from 0.

        Returns:
            The step, or None where no position of any process has a loss; nothing has changed then.
        """
        prepared = [self.task.prepare(part) for part in parts]
        work = self.work_of(prepared)
        if work.positions == 0:
            return None
        for part in prepared:
            if part.weight is not None:
                part.mean_weight = work.weight / work.positions
        self.optimizer.zero_grad()
        losses = []
        for place, part in enumerate(prepared, 1):
            with self.fabric.no_backward_sync(self.module, enabled=place < len(prepared)):
                # Gradients are averaged over processes, so each divides by its share of the positions.
                loss = self.module(part.to(self.fabric.device), work.positions / self.processes.count)
                check_loss(loss)
                self.fabric.backward(loss)
            self.finish_gradients()
            losses.append(loss.detach())
        norm = self.descend()
        return TakenStep(number, epoch, parts, losses, norm, self.optimizer.learning_rate, work)

    @property
    def collected(self) -> list[torch.nn.Parameter]:
        """Weights whose gradients item tables bring together themselves."""
        return [table.weight for table in self.item_tables if table.collects]

    def close(self) -> None:
        """Let go of what the device holds for steps; no more are taken."""

    def finish_gradients(self) -> None:
        """Have item tables note, or send, what the backward pass found for their rows."""
        for table in self.item_tables:
            table.finish_gradients()

    def descend(self) -> torch.Tensor | None:
        """Update the weights by the gradients there are; returns their norm where they are clipped."""
        norm = None
        if self.clip_norm is not None:
            norm = clip_grad_norm(self.optimizer.parameters, self.clip_norm, self.item_tables)
        self.optimizer.step()
        return norm

    def work_of(self, parts: list[LossBatch]) -> StepWork:
        """What all processes do in this step, from lengths that are known on the host."""
        return StepWork(*self.processes.sum(self.own_work(parts)))

    def own_work(self, parts: list[LossBatch]) -> list[float]:
        """What this process does of it, in the order of `StepWork`."""
        lengths = [length for part in parts for length in self.task.token_lengths(part.batch)]
        squares = self.task.squared_lengths(lengths)
        positions = sum(len(part.positions) for part in parts)
        weight = sum(len(part.positions) if part.weight is None else part.weight for part in parts)
        return [sum(lengths), squares, positions, weight]


def steps_of(loader: TrainLoader, accumulate: int) -> Iterator[list[PackedBatch]]:
    """The rest of a loader's epoch, `accumulate` micro-batches a step; the last step may have fewer."""
    parts: list[PackedBatch] = []
    for batch in loader:
        parts.append(batch)
        if len(parts) == accumulate or loader.at_end:
            yield parts
            parts = []
