"""`lrm similar`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.console import print_json, print_table
from cli.evaluate import CheckpointName


def similar(
    run: Annotated[str, typer.Argument(help="Run folder made by 'lrm train'.", metavar="RUN")],
    item: Annotated[str, typer.Option(help="Id of an item, as in the log.")],
    k: Annotated[int, typer.Option(min=1, help="How many items.")] = 10,
    columns: Annotated[
        str | None, typer.Option(help="Columns of items to show beside, separated by commas: genres,count.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Shard folder, if it has moved since training.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the items nearest to an item, by the cosines of the model's item vectors.

    Example:  lrm similar runs/hstu --item 2571 --k 5 --columns genres
    """
    from models.serving.export.similar import similar as nearest_items
    from models.serving.load import load_model

    names = [name.strip() for name in columns.split(",")] if columns else []
    found = nearest_items(load_model(run, checkpoint=checkpoint.value, data=data), item, k, names)
    if json:
        print_json({"item": item, "similar": found})
        return
    names = [name for name in found[0] if name not in ("rank", "item", "score")]
    header = ["rank", "item", "score", *names]
    rows = [
        [row["rank"], str(row["item"]), row["score"], *(_text(row[name]) for name in names)] for row in found
    ]
    print_table(f"nearest to {item}", header, rows)


def _text(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
