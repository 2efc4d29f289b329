"""`lrm embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from behavior.wording import number_of
from cli.console import note, print_json, progress_bars, say
from cli.evaluate import CheckpointName
from cli.recommend_job import tell_counts


def embed(
    run: Annotated[str, typer.Argument(help="Run folder made by 'lrm train'.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="New folder for items.parquet, users.parquet, embeddings.json.")],
    at: Annotated[
        str | None,
        typer.Option(
            help="When the next event happens, for models that know the time: 2026-01-31T12:00 (UTC), or a "
            "number in the spec's unit; default: when the user's last event did."
        ),
    ] = None,
    behavior: Annotated[
        str | None,
        typer.Option(help="Behavior that is wanted, for models that are told; default: the first target."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Shard folder, if it has moved since training.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    json: Annotated[bool, typer.Option("--json", help="Print what embeddings.json says.")] = False,
) -> None:
    """Write the vectors of all items and users to Parquet, with their ids as in the log.

    Example:  lrm embed runs/hstu --out vectors
    """
    from models.serving.export.vectors import embed as write_vectors
    from models.serving.load import load_model

    trained = load_model(run, checkpoint=checkpoint.value, data=data)
    with progress_bars(quiet=json) as bars:
        task = bars.add_task("users", total=None, note="")
        found = write_vectors(
            trained,
            out,
            behavior=behavior,
            at=at,
            progress=lambda done, users: bars.update(task, completed=done, total=users),
        )
    if json:
        print_json(found)
        return
    for name, file in found["files"].items():
        say(f"{out / name}: {number_of(file['rows'], 'vector')} of width {found['scoring']['dim']}")
    for text in found["notes"]:
        note(text)
    tell_counts(found["files"]["users.parquet"]["rows"], found["question"])
    say(f"score: {found['scoring']['score']}")
    for name, what in found["scoring"]["not_in_the_vectors"].items():
        say(f"not in the vectors: {name}, {what}")
