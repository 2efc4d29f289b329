"""`lrm train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import out as console
from cli.console import print_json, progress_bars

if TYPE_CHECKING:
    from rich.progress import Progress

    from models.training.observer import StepProgress, TrainResult, TrainStart, Validation


def train(
    data: Annotated[str, typer.Option(help="A shard folder made by 'lrm prepare'; gs:// and s3:// too.")],
    out: Annotated[Path, typer.Option(help="Folder for the run.")],
    backbone: Annotated[
        str | None, typer.Option(help="hstu, sasrec, gpt, llama, fuxi or ligr; default: the recipe's.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe that ships with lrm, or a YAML file; default: default, or the resumed run's."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order, dropout and negatives.")] = None,
    batch_sequences: Annotated[
        int | None, typer.Option(help="Sequences in a step, on all devices together.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Instead: events in a step, filled with whole sequences.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="known or unknown: whether queries know the time of what they predict.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="Devices of this machine to train on together; auto: every GPU.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, such as model.blocks=4; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on a shard folder.

    Interrupted at any point, the run goes on from its last checkpoint with --resume, and needs no settings
    repeated.

    Example:  lrm train --data data/ml-1m --backbone hstu --recipe ml-1m/hstu --out runs/hstu
    """
    from models.config import DEFAULT_RECIPE, load_config
    from models.distributed.join import is_first_process
    from models.runs.run_folder import RunFolder
    from models.training import train as run

    flags = {
        "model.kind": backbone,
        "train.epochs": epochs,
        "train.seed": seed,
        "train.batch_sequences": batch_sequences,
        "train.batch_tokens": batch_tokens,
        "train.devices": devices,
        "model.time": time,
    }
    settings = [f"{key}={value}" for key, value in flags.items() if value is not None]
    if recipe is None:
        folder = RunFolder(out)
        goes_on = resume and folder.marker.exists() and folder.config_file.exists()
        recipe = str(folder.config_file) if goes_on else DEFAULT_RECIPE
    config = load_config(recipe, [*settings, *(set or [])])
    with progress_bars(quiet=json) as bars:
        result = run(config, data, out, resume, TrainProgress(bars, quiet=json))
    if not is_first_process():
        return
    if json:
        print_json(result_record(result))
        return
    console.print(
        f"{result.epochs} epochs, {result.step:,} steps, {result.minutes:.1f} min of training "
        f"(stopped by {result.stopped_by}); next: lrm evaluate {out}",
        highlight=False,
    )
    console.print(f"curves: {out}/curves, TensorBoard: {out}/tensorboard", highlight=False)


def result_record(result: TrainResult) -> dict[str, Any]:
    """A training's result as plain values."""
    return {
        "run": str(result.run),
        "stopped_by": result.stopped_by,
        "epochs": result.epochs,
        "steps": result.step,
        "minutes": result.minutes,
        "loss": result.loss,
        "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
        "best_valid": result.best_metrics,
    }


def duration(minutes: float) -> str:
    """Hours, minutes and seconds, the larger two of them."""
    seconds = round(60 * minutes)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s"


class TrainProgress:
    """Shows a training as it goes: a bar, and a line a validation."""

    def __init__(self, bars: Progress, *, label: str = "training", quiet: bool = False) -> None:
        self.bars = bars
        self.quiet = quiet
        self.task = bars.add_task(label, total=None, note="")

    def started(self, start: TrainStart) -> None:
        self.bars.update(self.task, total=start.epochs * start.steps_per_epoch, completed=start.step)
        if self.quiet:
            return
        skipped = f", {start.skipped_sequences:,} too short to train on" if start.skipped_sequences else ""
        self.bars.console.print(
            f"{start.parameters:,} parameters on {start.device}; {start.sequences:,} sequences{skipped}; "
            f"{start.tokens_per_epoch:,} tokens an epoch; time {start.time}",
            highlight=False,
        )

    def stepped(self, progress: StepProgress) -> None:
        note = f"loss {progress.loss:.4f}, {progress.tokens_per_second:,.0f} tokens/s"
        if progress.mfu is not None:
            note += f", MFU {progress.mfu:.1%}"
        note += f", {duration(progress.minutes_left)} left"
        self.bars.update(self.task, completed=progress.step, total=progress.total_steps, note=note)

    def validated(self, validation: Validation) -> None:
        if self.quiet:
            return
        metrics = validation.metrics
        best = " (best)" if validation.is_best else ""
        cutoff = min(int(name.partition("@")[2]) for name in metrics if name.startswith("ndcg@"))
        shown = ", ".join(
            f"{name.upper()}@{cutoff} {metrics[f'{name}@{cutoff}']:.4f}" for name in ("ndcg", "hr")
        )
        self.bars.console.print(
            f"epoch {validation.epoch + 1}: valid {shown}, time {metrics['time']}{best}", highlight=False
        )

    def finished(self, result: TrainResult) -> None:
        self.bars.update(self.task, visible=False)
