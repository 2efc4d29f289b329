"""What is said of a training while it runs: to the log, and to whoever watches."""

from __future__ import annotations

import torch

from models.config import RunConfig
from models.data.loading import TrainLoader
from models.distributed.processes import Processes
from models.optim import OptimizerSet
from models.runs.metrics_log import MetricsLog
from models.training.clock import Clock
from models.training.flops import peak_flops
from models.training.losses import StepLosses, Stretch
from models.training.observer import StepProgress, TrainObserver
from models.training.state import TrainState


class Reporter:
    """Reads the losses on every process, since they are averaged over all, and tells them on the first.

    Args:
        config: all settings.
        loader: tells where in the data the training stands.
        losses: of the steps.
        clock: tells how long it has taken.
        device: of this process.
        processes: all of them.
        log: where records go; only the first process has one.
        observer: told, too, where there is a log.
    """

    def __init__(
        self,
        config: RunConfig,
        loader: TrainLoader,
        losses: StepLosses,
        clock: Clock,
        device: torch.device,
        processes: Processes,
        log: MetricsLog | None,
        observer: TrainObserver,
    ) -> None:
        self.config, self.loader, self.losses, self.clock = config.train, loader, losses, clock
        peak = peak_flops(device, config.train.precision)
        self.peak = None if peak is None else peak * processes.count
        self.log, self.observer = log, observer
        self.epoch, self.waited = loader.epoch, 0.0
        self.loss: float | None = None
        """The last reported."""

    def start_epoch(self) -> None:
        """Time counts from here."""
        self.epoch, self.waited = self.loader.epoch, self.loader.waited
        self.losses.restart()

    def report(self, state: TrainState, optimizer: OptimizerSet) -> None:
        """Tell about the steps since the last report, if there were any.

        Raises:
            UserError: a loss is not a number.
        """
        if not self.losses:
            return
        stretch = self.losses.take()
        waiting = (self.loader.waited - self.waited) / stretch.seconds
        self.loss, self.waited = stretch.loss, self.loader.waited
        state.minutes = self.clock.minutes()
        if self.log is None:
            return
        progress = self._progress(state, stretch, optimizer.learning_rate, waiting)
        self.log.write("train", state.step, _record(progress, stretch))
        self.observer.stepped(progress)

    def _progress(
        self, state: TrainState, stretch: Stretch, learning_rate: float, waiting: float
    ) -> StepProgress:
        left = self.config.epochs - self.epoch - 1
        remaining = left * self._steps(len(self.loader)) + self._steps(self.loader.batches_left)
        return StepProgress(
            epoch=self.epoch,
            step=state.step,
            total_steps=state.step + remaining,
            loss=stretch.loss,
            gradient_norm=stretch.gradient_norm,
            tokens_per_second=stretch.tokens_per_second,
            mfu=None if self.peak is None else stretch.flops_per_second / self.peak,
            learning_rate=learning_rate,
            waiting=waiting,
            minutes=state.minutes,
            minutes_left=self.clock.minutes_left(state.step, remaining),
        )

    def _steps(self, batches: int) -> int:
        return -(-batches // self.config.accumulate)


def _record(progress: StepProgress, stretch: Stretch) -> dict[str, float]:
    """The line of metrics.jsonl: first what a run repeats exactly, then what depends on the machine."""
    record = {"epoch": progress.epoch, "loss": progress.loss, "learning_rate": progress.learning_rate}
    if progress.gradient_norm is not None:
        record["gradient_norm"] = progress.gradient_norm
    record["tokens_per_second"] = round(progress.tokens_per_second)
    record["flops_per_second"] = float(f"{stretch.flops_per_second:.4g}")
    if progress.mfu is not None:
        record["mfu"] = round(progress.mfu, 4)
    record["waiting"] = round(progress.waiting, 4)
    record["minutes"] = round(progress.minutes, 4)
    record["minutes_left"] = round(progress.minutes_left, 4)
    return record
