"""`lrm scale`: a grid of runs over sizes of model and data, planned, run and picked up again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from behavior.errors import UsageError
from behavior.wording import number_of
from cli.console import print_json, print_table, say
from cli.evaluate import SplitName
from cli.interrupted import AGAIN, advised

if TYPE_CHECKING:
    from models.scaling.scale import Scale


class KeepName(StrEnum):
    """What of a finished run stays besides its numbers."""

    all = "all"
    best = "best"
    none = "none"


def scale(
    grid: Annotated[str | None, typer.Argument(help="Grid that ships with lrm, or a YAML file.")] = None,
    data: Annotated[str | None, typer.Option(help="Shard folder made by 'lrm prepare'.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the grid; several machines may share it.")] = Path(
        "runs/scale"
    ),
    plan: Annotated[bool, typer.Option("--plan", help="Print what each run will take, and end.")] = False,
    budget_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="GPU minutes that may be used; then runs stop, to be gone on with."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, spread over the GPUs.")] = 1,
    gpus: Annotated[str | None, typer.Option(help="GPUs to use, such as 0,1; default: all.")] = None,
    split: Annotated[
        SplitName, typer.Option(help="With valid, the test split is never read.")
    ] = SplitName.test,
    keep: Annotated[
        KeepName,
        typer.Option(help="Of finished runs, besides their numbers: all, the best checkpoint, or none."),
    ] = KeepName.best,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what has failed.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON: the plan, or the points.")] = False,
) -> None:
    """Train a grid of sizes: backbones x blocks x widths x lengths x data x seeds, each with its rate.

    Runs are named by a digest of their settings; finished ones are never run again, interrupted ones go on
    from their checkpoints, and what fails is recorded and does not stop the rest. The same command, in other
    processes or on other machines that see the folder, shares the work. Without a grid, lists those that
    ship with lrm.

    Example:  lrm scale ml-1m/depth-width --data data/ml-1m --out runs/scale --jobs 8
    """
    from models.scaling.checks import check_grid
    from models.scaling.grid import grid_names, load_grid

    if grid is None:
        grids = {name: load_grid(name) for name in grid_names()}
        print_table(
            "grids", ("grid", "shows", "sizes"), [(n, g.title, len(g.sizes())) for n, g in grids.items()]
        )
        return
    if data is None:
        raise UsageError("no data set is given to train on", where="--data", fix="name a shard folder")
    loaded = load_grid(grid)
    check_grid(loaded)
    # Only now torch, which takes seconds to import: what is wrong with the settings has been said.
    from models.scaling.lines import HEADER, plan_rows, plan_total, result_line
    from models.scaling.scale import Scale

    made = Scale(loaded, data, out, split=split.value, keep=keep.value)
    rows = made.plan()
    if json:
        print_json(rows) if plan else None
    else:
        print_table(loaded.title or grid, HEADER, plan_rows(rows))
        say(plan_total(rows))
    if plan:
        return
    with advised(f"{AGAIN} to go on: finished runs are kept, and others resumed"):
        news = made.run(
            jobs=jobs,
            gpus=[] if gpus is None else gpus.split(","),
            budget_minutes=budget_minutes,
            plan=rows,
            retry=retry,
        )
        for each in news:
            if not json:
                say(result_line(each))
    _end(made, json=json)


def _end(made: Scale, *, json: bool) -> None:
    from models.scaling.lines import crowded_lines, edge_lines
    from models.scaling.points import read_points

    state = made.look()
    if json:
        print_json({"results": str(made.store.path), "points": read_points(made.store.path)})
        return
    for line in [*crowded_lines(made.store.read_crowded()), *edge_lines(state.resolved)]:
        say(line)
    failed = f", {len(state.failures)} failed ({made.store.failures}; --retry)" if state.failures else ""
    waiting = f", {len(state.waiting)} wait for a learning rate" if state.waiting else ""
    say(f"{number_of(len(state.results), 'run')} done, {len(state.todo)} left{waiting}{failed}")
    say(f"next: lrm report {made.store.path} --html report.html")
