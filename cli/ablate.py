"""`lrm ablate`: tables of settings, trained for several seeds and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from behavior.errors import UsageError
from behavior.wording import number_of
from cli.console import print_json, print_table, say
from cli.evaluate import SplitName
from cli.evaluate_tables import MISSES
from cli.interrupted import AGAIN, advised

if TYPE_CHECKING:
    from models.experiments import Ablation, Comparison, RunRecord


def ablate(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Tables that ship with lrm, or YAML files.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Shard folder made by 'lrm prepare'.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/ablations"),
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the tables', such as 0,1,2.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs in parallel, spread over the GPUs.")] = 1,
    csv: Annotated[
        Path | None,
        typer.Option(help="CSV file that results are appended to; default: results.csv in --out."),
    ] = None,
    split: Annotated[
        SplitName, typer.Option(help="Split that lines are compared on; with valid, test is never read.")
    ] = SplitName.test,
    metric: Annotated[list[str] | None, typer.Option(help="Metric to show; may be repeated.")] = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit", help="Refit every run on training and validation events, too: a line of its own."
        ),
    ] = False,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting in all lines; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train every line of some tables of settings for every seed, and compare them.

    Each run is evaluated once, with the checkpoint of its best validation. To search for settings, compare on
    validation (--split valid), and evaluate on test only what was chosen. Results are appended to a CSV file;
    runs that are in it already are skipped, and an interrupted run is resumed. Without a table, lists those
    that ship with lrm.

    Example:  lrm ablate ml-1m/bias ml-1m/parts --data data/ml-1m --jobs 4
    """
    if not tables:
        _list_tables(json)
        return
    if data is None:
        raise UsageError("no data set is given to train on", where="--data", fix="name a shard folder")
    from models.experiments import check_tables

    check_tables(tables, set or [])
    # Only now torch, which takes seconds to import: what is wrong with the settings has been said.
    from models.experiments import Ablation

    ablation = Ablation(
        tables,
        data,
        out,
        csv=csv,
        seeds=_seeds(seeds),
        split=split.value,
        metrics=metric,
        overrides=set or [],
        refit=refit,
    )
    left = len(ablation.todo)
    if not json:
        done = ablation.num_runs - left
        say(f"{number_of(ablation.num_runs, 'run')}, {done} of them done before")
    with advised(f"{AGAIN} to go on: finished runs are kept, and others resumed"):
        for number, record in enumerate(ablation.run(jobs), start=1):
            if not json:
                say(_line(record, ablation, f"{number}/{left}"))
    found = ablation.comparisons()
    if json:
        shown = [{"title": table.title, "lines": table.lines} for table in found]
        print_json({"results": str(ablation.results), "split": split.value, "tables": shown})
        return
    for table in found:
        _print(table, ablation)
    say(f"every run: {ablation.results}")


def _list_tables(json: bool) -> None:
    from models.experiments import load_table, table_names

    tables = {name: load_table(name) for name in table_names()}
    rows = [(name, loaded.title, len(loaded.lines())) for name, loaded in tables.items()]
    if json:
        print_json([{"table": name, "title": title, "lines": lines} for name, title, lines in rows])
    else:
        print_table("tables", ("table", "shows", "lines"), rows)


def _line(record: RunRecord, ablation: Ablation, count: str) -> str:
    found = record.metrics(ablation.split)
    shown = ", ".join(f"{name.upper()} {found[name]:.4f}" for name in ablation.metrics)
    return f"{count} {record.line}, seed {record.seed}: {shown}; {record.minutes:.1f} min"


def _print(table: Comparison, ablation: Ablation) -> None:
    metrics = ablation.metrics
    missed = {n: what for n, what in MISSES.items() if any(entry.get(n) for entry in table.lines)}
    rows = [
        (
            entry["line"],
            *(_mean(entry[name], entry[f"{name} sd"]) for name in metrics),
            entry["seeds"],
            entry["parameters"],
            f"{entry['minutes']:.1f}",
            *(f"{entry.get(name, 0):,.0f}" for name in missed),
        )
        for entry in table.lines
    ]
    header = ("line", *(name.upper() for name in metrics), "seeds", "parameters", "minutes", *missed.values())
    title = f"{table.title} ({ablation.split} split, time {table.times}, {table.devices})"
    print_table(title, header, rows)


def _mean(mean: float, deviation: float | None) -> str:
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"'{text}' are not seeds", where="--seeds", fix="write numbers: 0,1,2") from None
