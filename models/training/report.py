"""Reports of the loss, the throughput and the time left, to the log and to the observer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from models.data.loading import TrainLoader
from models.optim import OptimizerSet
from models.runs.metrics_log import Log
from models.training.clock import Clock
from models.training.config import TrainConfig
from models.training.losses import StepLosses, Stretch
from models.training.observer import StepProgress, TrainObserver
from models.training.state import TrainState


@dataclass(frozen=True)
class Pace:
    """Where a training stands in its epochs, and how fast it goes."""

    config: TrainConfig
    loader: TrainLoader
    clock: Clock

    def steps_left(self, epoch: int) -> int:
        """Steps expected until the last epoch ends.

        Args:
            epoch: the current one; the loader may stand at the start of the next already.
        """
        whole = self.config.epochs_to_train - epoch - 1
        return whole * self._steps(len(self.loader)) + self._steps(self.loader.batches_left)

    def _steps(self, batches: int) -> int:
        return -(-batches // self.config.accumulate)


class _Due(NamedTuple):
    """What is known of a stretch of steps at its end."""

    step: int
    epoch: int
    learning_rate: float
    waited: float
    """Seconds so far."""
    steps_left: int


class Reporter:
    """Reads the losses, averages them over processes, and reports them.

    Args:
        pace: of the training.
        losses: of the steps.
        log: where records go.
        observer: told as well.
        peak: FLOP/s that all devices together could do; None: not known.
    """

    def __init__(
        self, pace: Pace, losses: StepLosses, log: Log, observer: TrainObserver, peak: float | None
    ) -> None:
        self.pace, self.losses, self.log, self.observer, self.peak = pace, losses, log, observer, peak
        self.epoch, self.waited = pace.loader.epoch, 0.0
        self.loss: float | None = None
        """The last reported."""
        self.due: _Due | None = None
        """The report that was begun."""

    def start_epoch(self) -> None:
        """Time counts from here."""
        self.epoch, self.waited = self.pace.loader.epoch, self.pace.loader.waited
        self.losses.restart()

    def report(self, state: TrainState, optimizer: OptimizerSet) -> None:
        """Report the steps since the last report, if there were any.

        Raises:
            UserError: a loss is not a number.
        """
        self.settle(state)
        self.report_later(state, optimizer)
        self.settle(state)

    def report_later(self, state: TrainState, optimizer: OptimizerSet) -> None:
        """Begin to: `settle` ends it. A GPU that has the next step by then is not kept waiting."""
        if not self.losses:
            return
        self.settle(state)
        self.losses.end()
        loader = self.pace.loader
        self.due = _Due(
            state.step, self.epoch, optimizer.learning_rate, loader.waited, self.pace.steps_left(self.epoch)
        )

    def settle(self, state: TrainState) -> None:
        """End the report that was begun, if one was.

        Raises:
            UserError: a loss is not a number.
        """
        if self.due is None:
            return
        due, self.due = self.due, None
        stretch = self.losses.take()
        waiting = (due.waited - self.waited) / stretch.seconds
        self.loss, self.waited = stretch.loss, due.waited
        state.minutes = self.pace.clock.minutes()
        progress = self._progress(due, stretch, waiting, state.minutes)
        self.log.write("train", due.step, _record(progress, stretch))
        self.observer.stepped(progress)

    def _progress(self, due: _Due, stretch: Stretch, waiting: float, minutes: float) -> StepProgress:
        return StepProgress(
            epoch=due.epoch + 1,
            step=due.step,
            total_steps=due.step + due.steps_left,
            loss=stretch.loss,
            gradient_norm=stretch.gradient_norm,
            tokens_per_second=stretch.tokens_per_second,
            mfu=None if self.peak is None else stretch.flops_per_second / self.peak,
            learning_rate=due.learning_rate,
            waiting=waiting,
            minutes=minutes,
            minutes_left=self.pace.clock.minutes_left(due.step, due.steps_left),
        )


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
