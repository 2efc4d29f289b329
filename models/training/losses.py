"""Losses since the last report, kept on the device until they are read, and checks that they are finite."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, NoReturn

import torch

from behavior.errors import UserError
from models.distributed.processes import Processes
from models.training.failed_step import save_failed_step
from models.training.step import TakenStep

# Batches are held until their losses have been read: so many tokens take some 250 MB.
_MOST_TOKENS = 1 << 22
_FIX = "lower optimizer.learning_rate or set optimizer.clip_norm; older checkpoints hold"


class Stretch(NamedTuple):
    """Some consecutive steps of a training."""

    loss: float
    """Mean over the steps."""
    gradient_norm: float | None
    """Mean over the steps, before clipping."""
    tokens_per_second: float
    """Of all processes together."""
    flops_per_second: float
    """Of all processes together; see `models.training.flops`."""
    seconds: float


class _Copied(NamedTuple):
    """Losses and norms of some steps, on their way to the host."""

    steps: list[TakenStep]
    values: torch.Tensor
    arrived: torch.cuda.Event | None
    """None: they are there."""

    @classmethod
    def of(cls, steps: list[TakenStep]) -> _Copied:
        """Begin to copy them; from a GPU nothing is waited for."""
        values = torch.stack([value for step in steps for value in _values(step)])
        if not values.is_cuda:
            return cls(steps, values, None)
        copied, arrived = values.to("cpu", non_blocking=True), torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        return cls(steps, copied, arrived)

    def read(self) -> list[float]:
        """Wait until they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.tolist()


class _Ended(NamedTuple):
    """A stretch of steps whose last losses are not read yet."""

    copied: _Copied | None
    losses: list[float]
    norms: list[float]
    tokens: float
    flops: float


class StepLosses:
    """Collects losses and gradient norms; reading them synchronizes with the device, so not every step does.

    Args:
        processes: their losses are averaged.
        failed: folder for the batches of a step that goes wrong.
    """

    def __init__(self, processes: Processes, failed: Path) -> None:
        self.processes, self.failed = processes, failed
        self.latest: TakenStep | None = None
        self.restart()

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self.ended: _Ended | None = None
        self._begin()
        self.since = time.monotonic()

    def _begin(self) -> None:
        self.unread: list[TakenStep] = []
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.tokens, self.flops, self.unread_tokens = 0.0, 0.0, 0.0

    def __len__(self) -> int:
        return len(self.losses) + len(self.unread)

    def add(self, step: TakenStep, flops: float) -> None:
        """Note a step and its floating-point operations; now and then, look at the losses so far.

        Raises:
            UserError: see `check`.
        """
        self.unread.append(step)
        self.latest = step
        self.tokens += step.work.tokens
        self.unread_tokens += step.work.tokens
        self.flops += flops
        if self.unread_tokens > _MOST_TOKENS:
            self.check()

    def check(self) -> None:
        """Read the losses of steps not looked at yet, and let go of their batches.

        Raises:
            UserError: a loss or a gradient is not a number, or infinite; its batches are saved.
        """
        steps, self.unread, self.unread_tokens = self.unread, [], 0.0
        if steps:
            losses, norms = self._read(_Copied.of(steps))
            self.losses += losses
            self.norms += norms

    def _read(self, copied: _Copied) -> tuple[list[float], list[float]]:
        """The loss of each step, and the norms of gradients that were clipped."""
        steps, values = copied.steps, iter(copied.read())
        sums, norms = [], []
        for step in steps:
            sums.append(sum(next(values) for _ in step.losses))
            norms += [] if step.gradient_norm is None else [next(values)]
        losses = [total / self.processes.count for total in self.processes.sum(sums)]
        for place, step in enumerate(steps):
            if not math.isfinite(losses[place]):
                self._fail(step, f"the loss became {losses[place]} at step {step.number}")
            if norms and not math.isfinite(norms[place]):
                self._fail(step, f"the gradient became {norms[place]} at step {step.number}")
        return losses, norms

    def check_weights(self, weights: Iterable[torch.Tensor]) -> None:
        """Check that weights which are about to be saved or evaluated are finite.

        Raises:
            UserError: they are not; the batches of the latest step are saved.
        """
        self.check()
        if self.latest is None:
            return
        # The largest magnitude, without a temporary of a table's size.
        largest = torch.stack([torch.linalg.vector_norm(weight.detach(), ord=math.inf) for weight in weights])
        # Those of a divided table may be numbers in one process and not in another.
        if self.processes.sum([float(not bool(largest.isfinite().all()))])[0]:
            self._fail(
                self.latest, f"the weights are no longer finite numbers after step {self.latest.number}"
            )

    def end(self) -> None:
        """End a stretch of steps, which `take` reads; what is added from now on belongs to the next."""
        copied = _Copied.of(self.unread) if self.unread else None
        self.ended = _Ended(copied, self.losses, self.norms, self.tokens, self.flops)
        self._begin()

    def take(self) -> Stretch:
        """Mean loss and throughput of the stretch that was ended, or ends now; its time ends once it is read.

        Raises:
            UserError: see `check`.
        """
        if self.ended is None:
            self.end()
        ended, self.ended = self.ended, None
        assert ended is not None
        losses, norms = ended.losses, ended.norms
        if ended.copied is not None:
            more = self._read(ended.copied)
            losses, norms = losses + more[0], norms + more[1]
        now = time.monotonic()
        seconds, self.since = max(now - self.since, 1e-9), now
        return Stretch(
            loss=sum(losses) / len(losses),
            gradient_norm=sum(norms) / len(norms) if norms else None,
            tokens_per_second=ended.tokens / seconds,
            flops_per_second=ended.flops / seconds,
            seconds=seconds,
        )

    def _fail(self, step: TakenStep, what: str) -> NoReturn:
        rank = self.processes.rank
        path = self.failed / f"step-{step.number}{f'-process-{rank}' if rank else ''}.safetensors"
        save_failed_step(path, step)
        raise UserError(f"{what}; its batches are saved", where=str(path), fix=_FIX)


def _values(step: TakenStep) -> list[torch.Tensor]:
    return [*step.losses, *([] if step.gradient_norm is None else [step.gradient_norm])]
