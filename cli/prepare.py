"""`lrm prepare`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.console import out as console
from cli.console import print_json, print_table, progress_bars

_STAGES = {"read": "reading", "sort": "sorting", "write": "writing"}


def prepare(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(help="A dataset spec (YAML), or the name of a ready one.")],
    out: Annotated[Path, typer.Option(help="Folder for the data set.")],
    input: Annotated[
        Path | None,
        typer.Option(help="Folder that paths in the spec are relative to; default: the spec's own."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Local processes; 0 for one a core.")] = 1,
    runner: Annotated[str, typer.Option(help="local, or a Beam runner such as FlinkRunner.")] = "local",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Turn raw logs into training shards.

    Everything after -- goes to Beam as it is.

    Example:  lrm prepare ml-1m --input ~/ml-1m --out data/ml-1m
    """
    # Beam takes a second to import: only the command that needs it pays.
    from behavior.spec import load_spec
    from pipelines.prepare import prepare as run
    from pipelines.runner import RunnerOptions

    parsed, base = load_spec(spec, input_folder=input)
    options = RunnerOptions(runner, workers, list(context.args))
    begin = time.perf_counter()
    with progress_bars(quiet=json) as bars:
        tasks = {name: bars.add_task(label, total=None, note="") for name, label in _STAGES.items()}

        def progress(stage: str, done: int, total: int) -> None:
            bars.update(tasks[stage], completed=done, total=total)

        result = run(parsed, base, out, runner=options, overwrite=overwrite, progress=progress)
    manifest = result.manifest
    if json:
        print_json(
            {"out": str(out), "done_before": result.done_before, "counts": manifest.counts.model_dump()}
        )
        return
    if result.done_before:
        console.print(f"'{out}' already holds this data set: nothing to do")
    rows = [(name, value) for name, value in manifest.counts.model_dump().items()]
    title = f"{manifest.name} in {out} ({time.perf_counter() - begin:.1f} s)"
    print_table(title, ("", "number"), rows)
    if manifest.counts.rejected:
        console.print(f"rejected rows, with file, line and reason: {out}/rejected/")
