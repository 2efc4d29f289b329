"""`lrm train`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.wording import number_of
from cli.console import print_json, progress_bars, say
from cli.interrupted import AGAIN, advised
from cli.progress import TrainProgress
from cli.train_flags import FLAGS, check_flags, check_refit, data_of_run, say_of_recipe
from models.backbones.kinds import BACKBONES

if TYPE_CHECKING:
    from models.config import RunConfig
    from models.data.loading.part import Part


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Shard folder made by 'lrm prepare'; gs:// and s3:// too. With --refit by default the run's."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help=f"Backbone: {', '.join(BACKBONES)}; default: the recipe's.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="retrieval, or ranking of --set task.label=LABEL; default: the recipe's."),
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
    refit: Annotated[
        Path | None,
        typer.Option(
            help="Run to train anew on training and validation events, for the epochs that its validation "
            "chose; keeps its settings."
        ),
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help="With --refit: on every event, to be served and not evaluated.")
    ] = False,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting, such as model.blocks=4; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on a shard folder.

    An interrupted run continues from its last checkpoint with --resume; its settings need not be repeated.

    Example:  lrm train --data data/ml-1m --backbone hstu --recipe ml-1m/hstu --out runs/hstu
    lrm train --refit runs/hstu --out runs/hstu-refitted
    """
    flags: dict[str, Any] = {
        "task.kind": task,
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
    check_refit(refit, every=all, recipe=recipe, init=init)
    settings = [*(f"{key}={value}" for key, value in given.items()), *(set or [])]
    shards = data or (None if refit else data_of_run(out, resume=resume))
    if refit is None:
        config = _config(out, recipe, settings, {key: FLAGS[key] for key in given}, resume=resume)
        if backbone is not None and recipe is not None:
            say_of_recipe(recipe, backbone)
        from models.training.ahead import compile_ahead

        compile_ahead(config.train.device)
    # Only now torch, which takes seconds to import: what is wrong with the settings has been said.
    from models.distributed.join import is_first_process
    from models.training import refit as run_refit
    from models.training import train as run

    advice = AGAIN if resume else lambda: _to_go_on(shards, out, refit)
    with advised(advice), progress_bars(quiet=json) as bars:
        progress = TrainProgress(bars, quiet=json, lines=not json, resumes=resume)
        if refit is not None:
            part: Part = "all" if all else "train+valid"
            result = run_refit(
                refit, out, part=part, data=data, settings=settings, resume=resume, observer=progress
            )
        elif shards is not None:
            result = run(config, shards, out, resume, progress, init)
    if not is_first_process():
        return
    if json:
        print_json(result.to_record())
        return
    following = "; every event was trained on: nothing is left to evaluate it on" if all else ""
    say(
        f"{number_of(result.epochs, 'epoch')}, {number_of(result.step, 'step')}, {result.minutes:.1f} min "
        f"of training (stopped by {result.stopped_by}){following or f'; next: lrm evaluate {out}'}",
    )
    say(f"curves: {out}/curves, TensorBoard: {out}/tensorboard")


def _config(
    out: Path, recipe: str | None, settings: list[str], flags: dict[str, str], *, resume: bool
) -> RunConfig:
    """The settings to train by: of a recipe, or with --resume of the run itself; `flags` gave some."""
    from models.config import DEFAULT_RECIPE, load_config
    from models.runs.run_folder import settings_to_resume

    own = settings_to_resume(out) if resume and recipe is None else None
    return load_config(recipe or own or DEFAULT_RECIPE, settings, flags=flags)


def _to_go_on(data: str | None, out: Path, refit: Path | None) -> str:
    """What to do after Ctrl-C in a training that was new."""
    if not (out / "run.json").exists():
        return f"nothing was written: {AGAIN}"
    start = f"--refit {quote(str(refit))}" if refit else f"--data {quote(str(data))}"
    return f"to go on: lrm train {start} --out {quote(str(out))} --resume"
