"""`lrm train`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from cli.console import print_json, progress_bars, say
from cli.interrupted import AGAIN, advised
from cli.progress import TrainProgress
from cli.train_flags import FLAGS, check_flags, say_of_recipe
from models.backbones.kinds import BACKBONES


def train(
    data: Annotated[str, typer.Option(help="Shard folder made by 'lrm prepare'; gs:// and s3:// too.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    backbone: Annotated[
        str | None, typer.Option(help=f"Backbone: {', '.join(BACKBONES)}; default: the recipe's.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe that ships with lrm, or a YAML file; default: default, with --resume the run's own."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Random seed of initialization, shuffling, dropout and negatives.")
    ] = None,
    batch_sequences: Annotated[
        int | None, typer.Option(help="Sequences per optimizer step, on all devices together.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Instead: events per optimizer step, in whole sequences.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="known or unknown: whether a query knows the timestamp of the event to predict."),
    ] = None,
    devices: Annotated[
        str | None, typer.Option(help="Devices of this machine for data-parallel training; auto: every GPU.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last checkpoint.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option(help="Run whose weights a new one begins with; items are found again by their ids."),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, such as model.blocks=4; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on a shard folder.

    An interrupted run continues from its last checkpoint with --resume; its settings need not be repeated.

    Example:  lrm train --data data/ml-1m --backbone hstu --recipe ml-1m/hstu --out runs/hstu
    """
    from models.config import DEFAULT_RECIPE, load_config
    from models.runs.run_folder import settings_to_resume

    flags: dict[str, Any] = {
        "model.kind": backbone,
        "train.epochs": epochs,
        "train.seed": seed,
        "train.batch_sequences": batch_sequences,
        "train.batch_tokens": batch_tokens,
        "train.devices": devices,
        "model.time": time,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    check_flags(given, set or [])
    settings = [f"{key}={value}" for key, value in given.items()]
    own = settings_to_resume(out) if resume and recipe is None else None
    start = recipe or own or DEFAULT_RECIPE
    config = load_config(start, [*settings, *(set or [])], flags=FLAGS)
    if backbone is not None and recipe is not None:
        say_of_recipe(recipe, backbone)
    # Only now torch, which takes seconds to import: what is wrong with the settings has been said.
    from models.distributed.join import is_first_process
    from models.training import train as run

    advice = AGAIN if resume else lambda: _to_go_on(data, out)
    with advised(advice), progress_bars(quiet=json) as bars:
        progress = TrainProgress(bars, quiet=json, lines=not json, resumes=resume)
        result = run(config, data, out, resume, progress, init)
    if not is_first_process():
        return
    if json:
        print_json(result.to_record())
        return
    say(
        f"{result.epochs} epochs, {result.step:,} steps, {result.minutes:.1f} min of training "
        f"(stopped by {result.stopped_by}); next: lrm evaluate {out}",
    )
    say(f"curves: {out}/curves, TensorBoard: {out}/tensorboard")


def _to_go_on(data: str, out: Path) -> str:
    """What to do after Ctrl-C in a training that was new."""
    if not (out / "run.json").exists():
        return f"nothing was written: {AGAIN}"
    return f"to go on: lrm train --data {quote(data)} --out {quote(str(out))} --resume"
