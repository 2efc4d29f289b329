"""Optimizer steps that are captured as CUDA graphs, one a padded size, and replayed: for models that kernel
launches hold up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from lightning.fabric import Fabric

from behavior.errors import UserError
from models.attention.dispatch import NoKernelError
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import WholeTable, item_tables, places_of_targets
from models.optim import OptimizerSet
from models.tasks.checks import check_loss
from models.tasks.flops import StepWork
from models.tasks.loss_batch import LossBatch
from models.tasks.registry import task_kind
from models.tasks.task import Task
from models.training.cuda_graph import Captured, Work
from models.training.static_input import StaticInput, StepSize
from models.training.step import Stepper, TakenStep

_OFF = "set train.cuda_graphs=false"
LONGEST_PADDED = 512
"""Longest histories of softmax attention for which `auto` pads every sequence to that length."""


def captures_steps(config: RunConfig, device: torch.device) -> bool:
    """Whether steps are captured and replayed, as `train.cuda_graphs` says.

    Raises:
        UserError: they are to be and cannot be; says which other setting is in the way.
    """
    wanted = config.train.cuda_graphs
    problem = next(_problems(config, device), None)
    if problem is not None and wanted is True:
        where, what, fix = problem
        raise UserError(f"train.cuda_graphs needs {what}", where=where, fix=f"{fix}, or {_OFF}")
    if problem is not None or wanted is False:
        return False
    return wanted is True or why_not_worthwhile(config) is None


def why_not_captured(config: RunConfig, device: torch.device) -> str | None:
    """Why `train.cuda_graphs=auto` captures nothing, in a few words; None: it does, or is not asked to."""
    if config.train.cuda_graphs != "auto":
        return None
    problem = next(_problems(config, device), None)
    if problem is None:
        return why_not_worthwhile(config)
    return f"{problem[0]}: CUDA graphs need {problem[1]}"


def why_not_worthwhile(config: RunConfig) -> str | None:
    """Why captured steps would be no gain where they are possible; None: they would."""
    model = config.model
    softmax = (model.activation or model.preset.activation) == "softmax"
    if softmax and model.max_length > LONGEST_PADDED:
        return f"softmax attention would be padded to model.max_length, {model.max_length:,} events"
    if not task_kind(config.task.kind).captured:
        return f"task '{config.task.kind}' does not say that its steps can be captured"
    return None


def _problems(config: RunConfig, device: torch.device) -> Iterator[tuple[str, str, str]]:
    """Where, what is needed, and what to do."""
    train, model = config.train, config.model
    if device.type != "cuda":
        yield "train.device", f"a CUDA device, and this is {device.type}", "train on a GPU"
    if train.accumulate > 1:
        yield "train.accumulate", "steps of one micro-batch", "set train.accumulate=1"
    if model.recompute == "block":  # it saves and restores the state of random generators
        yield "model.recompute", "blocks without activation checkpointing", "set model.recompute=pointwise"


class CapturedStepper(Stepper):
    """Takes steps as `Stepper` does, of one micro-batch each, from input padded to a few fixed sizes.

    Random numbers differ from those of `Stepper`, since padding takes its share of them. Several processes
    take steps of the same size, that of the largest, so that all warm up, capture and replay at once; what
    they send each other is captured with the rest.

    Args:
        fabric: of this process alone: it averages no gradients.
        task: its objective is on the device.
        optimizer: of the objective's parameters.
        clip_norm: maximum gradient norm; None: gradients are not clipped.
        longest: no sequence has more tokens.
        capture: captures a step, and gives one that is replayed (`models.training.cuda_graph.CudaGraphs`).
        gives_up: takes steps as `Stepper` does where no attention kernel can do without lengths on the host.
        processes: all of them.
    """

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        optimizer: OptimizerSet,
        clip_norm: float | None,
        longest: int,
        capture: Callable[[Work], Work],
        *,
        gives_up: bool = False,
        processes: Processes = SINGLE,
    ) -> None:
        for table in item_tables(task.objective):
            # A pass over a large table takes as long as one over all look-ups.
            if isinstance(table, WholeTable) and fabric.device.type == "cuda":
                table.sum_at_once()
        super().__init__(fabric, processes, task, optimizer, clip_norm)
        apart = set(map(id, self.collected))
        self.shared = [one for one in task.objective.parameters() if id(one) not in apart]
        for parameter in self.shared:
            processes.broadcast(parameter)
        optimizer.keep_rates_on(fabric.device)
        self.longest, self.capture = longest, capture
        self.steps: dict[StepSize, tuple[StaticInput, Work]] = {}
        self.gives_up, self.captures = gives_up, True

    def take(self, parts: list[PackedBatch], number: int, epoch: int) -> TakenStep | None:
        """See `Stepper.take`."""
        if not self.captures:
            return super().take(parts, number, epoch)
        (part,) = parts
        prepared = self.task.prepare(part)
        if self.processes.count > 1 and self.task.looks_up_targets:
            target = part.target[prepared.positions]
            prepared.places = places_of_targets(part.item, prepared.positions, target)
        work, size = self._agreed(prepared)
        if work.positions == 0:
            return None
        several = self.processes.count > 1
        if several and prepared.weight is not None:
            prepared.mean_weight = work.weight / work.positions
        put_in, update = self._step_for(size, prepared)
        put_in.put(prepared, work.positions / self.processes.count if several else 0.0)
        try:
            loss, *norms = _told(update)
        except NoKernelError:  # nothing has changed yet
            if not self.gives_up:
                raise
            self.captures = False
            self.steps.clear()
            return super().take(parts, number, epoch)
        norm = norms[0] if norms else None
        return TakenStep(number, epoch, parts, [loss], norm, self.optimizer.learning_rate, work)

    def close(self) -> None:
        """See `Stepper.close`: NCCL does not let go of processes while a graph has anything to send them."""
        for _, update in self.steps.values():
            if isinstance(update, Captured):
                update.free()
        self.steps.clear()

    def finish_gradients(self) -> None:
        """See `Stepper.finish_gradients`; and average the others over processes."""
        super().finish_gradients()
        self.processes.average([one.grad for one in self.shared if one.grad is not None])

    def _agreed(self, step: LossBatch) -> tuple[StepWork, StepSize]:
        """What all processes do, and the size that holds the step of each."""
        own = [*self.own_work([step]), *StepSize.holding(step)]
        told = self.processes.all_gather(torch.tensor(own, dtype=torch.float64))  # [count, 8]
        work, sizes = told.split([len(StepWork._fields), len(StepSize._fields)], dim=1)
        return StepWork(*work.sum(0).tolist()), StepSize(*map(int, sizes.amax(0).tolist()))

    def _step_for(self, size: StepSize, step: LossBatch) -> tuple[StaticInput, Work]:
        if size not in self.steps:
            fixed = StaticInput(size, step, longest=self.longest, device=self.fabric.device)
            self.steps[size] = fixed, self.capture(lambda: self._update(fixed))
        return self.steps[size]

    def _update(self, fixed: StaticInput) -> list[torch.Tensor]:
        """The loss, and the norm of the gradients where they are clipped."""
        # Gradients of the last step of another size are freed, so that graphs can share the memory pool.
        self.optimizer.zero_grad()
        denominator = (fixed.denominator,) if self.processes.count > 1 else ()
        loss = self.module(fixed.step(), *denominator)
        check_loss(loss)
        self.fabric.backward(loss)
        self.finish_gradients()
        norm = self.descend()
        return [loss.detach()] if norm is None else [loss.detach(), norm]


def _told(update: Work) -> Sequence[torch.Tensor]:
    """What a step gives; where it cannot be captured, an error that says what to do."""
    try:
        return update()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if "captur" not in str(error):
            raise
        raise UserError(
            f"a step cannot be captured as a CUDA graph: {str(error).splitlines()[0]}",
            where="train.cuda_graphs",
            fix=f"{_OFF}; something in the model or its loss waits for the device",
        ) from error
