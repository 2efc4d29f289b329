"""Callbacks of a training, for a progress display, say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from behavior.wording import number_of
from models.data.loading.part import Part

FEW_USERS = 100
"""With fewer, the standard error of an HR of 0.5 is above 0.05."""


@dataclass(frozen=True)
class TrainStart:
    """Known before the first step."""

    run: Path
    device: str
    parameters: int
    sequences: int
    skipped_sequences: int
    """Sequences with fewer than 2 training events, of what `left_out_by` leaves."""
    tokens_per_epoch: int
    epochs: int
    steps_per_epoch: int
    """Of the current epoch; with a token budget it differs a little from epoch to epoch."""
    step: int
    """Steps already taken: not 0 when a run resumes."""
    protocol: dict[str, Any]
    """What decides the metrics besides the model; see `models.tasks.task.Evaluator`."""
    warmup_steps: int = 0
    on_later_version: bool = False
    """Whether the run resumes on a later version of its data set."""
    validated: int | None = None
    """Users whom the metrics of a validation are means over; None: not known beforehand."""
    part: Part = "train"
    """Events that are trained on; nothing is validated where they are more than the training part."""
    precision: str = "32-true"
    """What is computed with: as `train.precision`, but never `auto`."""
    captured: bool = False
    """Whether steps are captured as CUDA graphs and replayed."""
    not_captured: str | None = None
    """Why they are not, where `train.cuda_graphs=auto` left that open."""
    left_out_by: tuple[str, ...] = ()
    """Settings by which users or events of the data set are not trained on."""

    @property
    def time(self) -> str:
        """Whether queries know the time of what they predict: known, unknown; none where nothing does."""
        return str(self.protocol.get("time", "none"))

    @property
    def exclude_seen(self) -> bool:
        """Whether items that a user had before are no candidates."""
        return bool(self.protocol.get("exclude_seen", False))

    @property
    def warnings(self) -> list[str]:
        """What will probably not go as meant."""
        return [text for text in (self._about_validation(), self._about_warmup()) if text]

    def _about_warmup(self) -> str | None:
        steps = self.epochs * self.steps_per_epoch
        if self.warmup_steps <= steps:
            return None
        return (
            f"the warm-up of {number_of(self.warmup_steps, 'step')} is longer than the training of about "
            f"{steps:,}: the learning rate never reaches its peak (optimizer.warmup_steps)"
        )

    def _about_validation(self) -> str | None:
        if self.validated is None or self.validated >= FEW_USERS:
            return None
        if not self.validated:
            return (
                "nobody is validated: the validation split has no target with a history. The best checkpoint "
                "is the last one, and train.patience never ends the training"
            )
        return (
            f"only {number_of(self.validated, 'user is', 'users are')} validated: which checkpoint is the "
            "best is largely chance, and so is when train.patience ends the training"
        )


@dataclass(frozen=True)
class StepProgress:
    """Told every `train.log_every_steps` steps."""

    epoch: int
    """From 1."""
    step: int
    """Steps taken since the start of the run."""
    total_steps: int
    """Expected until the last epoch ends."""
    loss: float
    """Mean over the steps since the last report."""
    gradient_norm: float | None
    """Likewise, before clipping; none where nothing is clipped."""
    tokens_per_second: float
    """On all devices together."""
    mfu: float | None
    """Model FLOPs utilization, 0 to 1; none where the device's peak is not known."""
    learning_rate: float
    waiting: float
    """Share of the time since the last report that training waited for the loader."""
    minutes: float
    """Of training so far, interruptions left out."""
    minutes_left: float
    """Until the last epoch ends, at the pace so far."""


@dataclass(frozen=True)
class Validation:
    """Told after each validation."""

    epoch: int
    """From 1; the one it stands in."""
    step: int
    metrics: dict[str, Any]
    is_best: bool
    lacks: str | None = None
    """The metric that chooses the best checkpoint, where the validation has no value of it."""


@dataclass(frozen=True)
class TrainResult:
    """Told at the end, and returned."""

    run: Path
    stopped_by: str
    """`epochs`, `max_minutes` or `patience`."""
    epochs: int
    """Whole epochs done."""
    step: int
    minutes: float
    loss: float | None
    """The last reported; none when the run had already ended."""
    best_epoch: int | None
    """Epoch (from 1) of the best validation; where nobody is validated, the last one's."""
    best_metrics: dict[str, Any]
    """Its metrics, on the validation split; none but counts where nobody is validated."""

    def to_record(self) -> dict[str, Any]:
        """Plain values, for JSON; epochs count from 1."""
        return {
            "run": str(self.run),
            "stopped_by": self.stopped_by,
            "epochs": self.epochs,
            "steps": self.step,
            "minutes": self.minutes,
            "loss": self.loss,
            "best_epoch": self.best_epoch,
            "best_valid": self.best_metrics,
        }


class TrainObserver(Protocol):
    """Receives the progress of a training; none of it may change the training."""

    def started(self, start: TrainStart) -> None: ...

    def stepped(self, progress: StepProgress) -> None: ...

    def validated(self, validation: Validation) -> None: ...

    def finished(self, result: TrainResult) -> None: ...


class Silent:
    """An observer that ignores everything."""

    def started(self, start: TrainStart) -> None:
        pass

    def stepped(self, progress: StepProgress) -> None:
        pass

    def validated(self, validation: Validation) -> None:
        pass

    def finished(self, result: TrainResult) -> None:
        pass
