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
from models.optim import OptimizerSet
from models.tasks.checks import check_loss
from models.tasks.loss_batch import LossBatch
from models.tasks.registry import task_kind
from models.tasks.task import Task
from models.training.cuda_graph import Work
from models.training.static_input import StaticInput, StepSize
from models.training.step import Stepper, TakenStep

_OFF = "set train.cuda_graphs=false"
LONGEST_PADDED = 512
"""Longest histories of softmax attention for which `auto` pads every sequence to that length."""


def captures_steps(config: RunConfig, device: torch.device, processes: Processes) -> bool:
    """Whether steps are captured and replayed, as `train.cuda_graphs` says.

    Raises:
        UserError: they are to be and cannot be; says which other setting is in the way.
    """
    wanted = config.train.cuda_graphs
    problem = next(_problems(config, device, processes), None)
    if problem is not None and wanted is True:
        where, what, fix = problem
        raise UserError(f"train.cuda_graphs needs {what}", where=where, fix=f"{fix}, or {_OFF}")
    if problem is not None or wanted is False:
        return False
    return wanted is True or why_not_worthwhile(config) is None


def why_not_captured(config: RunConfig, device: torch.device, processes: Processes) -> str | None:
    """Why `train.cuda_graphs=auto` captures nothing, in a few words; None: it does, or is not asked to."""
    if config.train.cuda_graphs != "auto":
        return None
    problem = next(_problems(config, device, processes), None)
    return why_not_worthwhile(config) if problem is None else f"{problem[0]}: CUDA graphs need {problem[1]}"


def why_not_worthwhile(config: RunConfig) -> str | None:
    """Why captured steps would be no gain, or no safe one, where they are possible; None: they would."""
    model = config.model
    softmax = (model.activation or model.preset.activation) == "softmax"
    if softmax and model.max_length > LONGEST_PADDED:
        return f"softmax attention would be padded to model.max_length, {model.max_length:,} events"
    if not task_kind(config.task.kind).captured:
        return f"task '{config.task.kind}' does not say that its steps can be captured"
    return None


def _problems(
    config: RunConfig, device: torch.device, processes: Processes
) -> Iterator[tuple[str, str, str]]:
    """Where, what is needed, and what to do."""
    train, model = config.train, config.model
    if device.type != "cuda":
        yield "train.device", f"a CUDA device, and this is {device.type}", "train on a GPU"
    if processes.count > 1:
        yield "train.devices", f"one process, and there are {processes.count}", "use one device"
    if train.accumulate > 1:
        yield "train.accumulate", "steps of one micro-batch", "set train.accumulate=1"
    if model.recompute == "block":  # it saves and restores the state of random generators
        yield "model.recompute", "blocks without activation checkpointing", "set model.recompute=pointwise"


class CapturedStepper(Stepper):
    """Takes steps as `Stepper` does, of one micro-batch each, from input padded to a few fixed sizes.

    Random numbers differ from those of `Stepper`, since padding takes its share of them.

    Args:
        fabric: of this process, the only one.
        task: its objective is on the device.
        optimizer: of the objective's parameters.
        clip_norm: maximum gradient norm; None: gradients are not clipped.
        longest: no sequence has more tokens.
        capture: captures a step, and gives one that is replayed (`models.training.cuda_graph.CudaGraphs`).
        gives_up: takes steps as `Stepper` does where no attention kernel can do without lengths on the host.
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
    ) -> None:
        super().__init__(fabric, SINGLE, task, optimizer, clip_norm)
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
        work = self.work_of([prepared])
        if work.positions == 0:
            return None
        put_in, update = self._step_for(prepared)
        put_in.put(prepared)
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

    def _step_for(self, step: LossBatch) -> tuple[StaticInput, Work]:
        size = StepSize.holding(step)
        if size not in self.steps:
            fixed = StaticInput(size, step.batch, longest=self.longest, device=self.fabric.device)
            self.steps[size] = fixed, self.capture(lambda: self._update(fixed))
        return self.steps[size]

    def _update(self, fixed: StaticInput) -> list[torch.Tensor]:
        """The loss, and the norm of the gradients where they are clipped."""
        # Gradients of the last step of another size are freed, so that graphs can share the memory pool.
        self.optimizer.zero_grad()
        loss = self.module(fixed.step())
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
