"""Flags of all commands that run jobs on engines."""

from __future__ import annotations

from typing import Annotated

import typer

WorkerTimeout = Annotated[
    float | None,
    typer.Option(
        help="On an engine, seconds within which a worker must answer; 0: workers are not looked at before "
        "the work begins. Default: 300, on Dataflow 900."
    ),
]
