"""`lrm export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_json, say
from cli.evaluate import CheckpointName


class FormatName(StrEnum):
    """What is written."""

    safetensors = "safetensors"
    onnx = "onnx"
    aoti = "aoti"


def export(
    run: Annotated[str, typer.Argument(help="Run folder made by 'lrm train'.", metavar="RUN")],
    out: Annotated[Path, typer.Option(help="New folder to write to.")],
    format: Annotated[
        FormatName,
        typer.Option(
            help="safetensors: all weights; onnx: the user tower and the scorer of all items, for "
            "onnxruntime; aoti: the same, compiled for this machine's CPU by torch."
        ),
    ] = FormatName.safetensors,
    data: Annotated[str | None, typer.Option(help="Shard folder, if it has moved since training.")] = None,
    checkpoint: Annotated[
        CheckpointName, typer.Option(help="best on validation, or last.")
    ] = CheckpointName.best,
    json: Annotated[bool, typer.Option("--json", help="Print what export.json says.")] = False,
) -> None:
    """Write a trained model, with what every id means, for programs without lrm-kit.

    Example:  lrm export runs/hstu --out exported --format onnx
    """
    from models.serving.export.run import export as write_model
    from models.serving.load import load_model

    trained = load_model(run, checkpoint=checkpoint.value, data=data, device="cpu")
    found = write_model(trained, out, format.value)
    if json:
        print_json(found)
        return
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        say(f"{path}: {path.stat().st_size:,} bytes")
    say(f"score: {found['scoring']['score']}")
