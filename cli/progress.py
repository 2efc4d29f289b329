"""The progress of a training on the terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from behavior.wording import number_of
from cli.console import Bars, note, warn

if TYPE_CHECKING:
    from models.training.observer import StepProgress, TrainResult, TrainStart, Validation

_SECONDS_BETWEEN_LINES = 30.0


def duration(minutes: float) -> str:
    """Hours, minutes and seconds, the larger two of them."""
    seconds = round(60 * minutes)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s"


def threads_in_words() -> str:
    """How many threads torch computes with, of how many cores, and how to change it."""
    import torch

    from behavior.runtime.cores import usable_cores

    threads, cores = torch.get_num_threads(), usable_cores()
    busy = " (so that none is shared with what else runs here)" if threads < cores else ""
    return f"threads: {threads}, cores: {cores}{busy}; lrm --threads N sets another number"


class TrainProgress:
    """Shows a training as it goes: a bar, and a line a validation.

    Args:
        bars: where the bar goes.
        label: of the bar.
        quiet: no lines about the data and the validations.
        lines: without a terminal, and so without bars, a line about the pace every half a minute.
        resumes: the training goes on with a run.
    """

    def __init__(
        self,
        bars: Bars,
        *,
        label: str = "training",
        quiet: bool = False,
        lines: bool = True,
        resumes: bool = False,
    ) -> None:
        self.bars, self.label, self.quiet, self.resumes = bars, label, quiet, resumes
        self.lines = lines and bars.disable
        self.said = time.monotonic()
        self.told_lack = False
        self.task = bars.add_task(label, total=None, note="")

    def started(self, start: TrainStart) -> None:
        self.bars.update(self.task, total=start.epochs * start.steps_per_epoch, completed=start.step)
        for warning in start.warnings:
            warn(warning)
        if self.quiet:
            return
        if self.resumes:
            note(f"resumes after step {start.step:,}" if start.step else "no step was taken yet: it begins")
        note(
            f"{number_of(start.parameters, 'parameter')} on {start.device}; {_sequences(start)}; "
            f"{number_of(start.tokens_per_epoch, 'token')} an epoch; time {start.time}",
        )
        if not start.device.endswith("cpu"):
            note(_computes(start))
        if start.part != "train":
            note(_refits(start))
        if start.on_later_version:
            note(
                "the data set is a later version than the run's: vectors of new items are fresh, the epoch "
                "begins anew, and so does the search for the best checkpoint"
            )
        if start.validated:
            kept = "removed" if start.exclude_seen else "kept"
            reason = start.protocol.get("exclude_seen_reason")
            seen = f"; seen items {kept} ({reason})" if reason else ""
            note(f"{number_of(start.validated, 'user is', 'users are')} validated{seen}")

    def stepped(self, progress: StepProgress) -> None:
        pace = f"loss {progress.loss:.4f}, {progress.tokens_per_second:,.0f} tokens/s"
        if progress.mfu is not None:
            pace += f", MFU {progress.mfu:.1%}"
        pace += f", {duration(progress.minutes_left)} left"
        self.bars.update(self.task, completed=progress.step, total=progress.total_steps, note=pace)
        if self.lines and time.monotonic() - self.said > _SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            note(f"{self.label}: step {progress.step:,} of {progress.total_steps:,}, {pace}")

    def validated(self, validation: Validation) -> None:
        if self.quiet:
            return
        metrics = validation.metrics
        shown = ", ".join(f"{name.upper()} {metrics[name]:.4f}" for name in _shown(metrics)) or "nobody"
        details = f", time {metrics['time']}" if "time" in metrics else ""
        missed = metrics.get("oov_targets", 0) + metrics.get("excluded_targets", 0)
        details += (
            f", {missed:,} of {number_of(metrics['targets'], 'target')} unknown or excluded" if missed else ""
        )
        best = " (best)" if validation.is_best else ""
        note(f"epoch {validation.epoch}: valid {shown}{details}{best}")
        if validation.lacks is not None and not self.told_lack and shown != "nobody":
            self.told_lack = True
            warn(
                f"the validation has no {validation.lacks.upper()}, which chooses the best checkpoint: the "
                "latest is taken until one has it (where no row, or every row, has the label there is no AUC)"
            )

    def finished(self, result: TrainResult) -> None:
        self.bars.update(self.task, visible=False)


class Evaluating:
    """Shows what is evaluated at the moment: beside a bar, or without a terminal in lines.

    Args:
        bars: where it goes.
        quiet: nothing is shown.
        every: seconds between lines, at least; what is done sooner needs none.
    """

    def __init__(self, bars: Bars, *, quiet: bool = False, every: float = 5.0) -> None:
        self.bars, self.every, self.said = bars, every, time.monotonic()
        self.lines = bars.disable and not quiet
        self.task = bars.add_task("evaluating", total=None, note="")
        self.done = -1

    def __call__(self, name: str) -> None:
        self.done += 1
        self.bars.update(self.task, completed=self.done, note=name)
        if self.lines and time.monotonic() - self.said > self.every:
            self.said = time.monotonic()
            note(f"evaluating {name}")


def _sequences(start: TrainStart) -> str:
    """How many are trained on, and how many are not."""
    found = number_of(start.sequences, "sequence")
    if not start.skipped_sequences:
        return found
    out = f"left out by {' and '.join(start.left_out_by)}, or " if start.left_out_by else ""
    return f"{found}, {start.skipped_sequences:,} {out}too short to train on"


def _refits(start: TrainStart) -> str:
    """What more than the training part is trained on."""
    from models.data.loading.part import IN_WORDS

    less = f" (less what {' and '.join(start.left_out_by)} leaves out)" if start.left_out_by else ""
    epochs = number_of(start.epochs, "epoch")
    return f"refits: trains on {IN_WORDS[start.part]}{less}, {epochs}, and validates nothing"


def _computes(start: TrainStart) -> str:
    """In what numbers, and how steps are taken, on a GPU."""
    precision = "float32" if start.precision == "32-true" else "bfloat16 mixed precision"
    steps = "steps as CUDA graphs" if start.captured else "steps without CUDA graphs"
    why = f" ({start.not_captured})" if start.not_captured else ""
    return f"{precision}, {steps}{why}; train.precision and train.cuda_graphs set otherwise"


def _shown(metrics: dict[str, Any]) -> list[str]:
    """NDCG and HR at the first cutoff; of other tasks than retrieval the first few metrics."""
    cutoffs = [int(name.partition("@")[2]) for name in metrics if name.startswith("ndcg@")]
    if cutoffs:
        return [f"{name}@{min(cutoffs)}" for name in ("ndcg", "hr")]
    return [name for name, value in metrics.items() if isinstance(value, float)][:3]
