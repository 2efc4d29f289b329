"""`lrm ablate`: tables of settings, trained for several seeds and compared."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from behavior.errors import UserError
from cli.console import out as console
from cli.console import print_json, print_table
from cli.evaluate import SplitName

if TYPE_CHECKING:
    from models.evaluation.targets import Split
    from models.experiments import AblationTable, PlannedRun, RunRecord

RESULTS = "results.csv"


def ablate(
    tables: Annotated[
        list[str] | None, typer.Argument(help="Tables that ship with lrm, or YAML files.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A shard folder made by 'lrm prepare'.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/ablations"),
    seeds: Annotated[str | None, typer.Option(help="Instead of the tables' seeds, such as 0,1,2.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, spread over the GPUs.")] = 1,
    csv: Annotated[
        Path | None, typer.Option(help=f"File to which results are appended; default: {RESULTS} in --out.")
    ] = None,
    split: Annotated[
        SplitName, typer.Option(help="What lines are compared on; valid: test is not even read.")
    ] = SplitName.test,
    metric: Annotated[list[str] | None, typer.Option(help="A metric to show; may be repeated.")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of all lines; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train every line of some tables of settings for every seed, and compare them.

    Each run is judged once, with the checkpoint that validation chose. To search for settings, compare on
    validation (--split valid), and read test for the one that is chosen. Results are appended to a CSV file;
    what stands there already is not run again, and a run that was cut off goes on. Without a table, lists
    those that ship with lrm.

    Example:  lrm ablate ml-1m/bias ml-1m/parts --data data/ml-1m --jobs 4
    """
    from models.experiments import METRICS, append_record, load_table, plan_runs, read_records, run_all

    if not tables:
        _list_tables(json)
        return
    if data is None:
        raise UserError("there is no data to train on", where="--data", fix="name a shard folder")
    loaded = [load_table(name) for name in tables]
    planned = [
        plan_runs(_name(name), table, data, out, seeds=_seeds(seeds), overrides=set or [])
        for name, table in zip(tables, loaded, strict=True)
    ]
    metrics = metric or list(METRICS)
    for run in chain(*planned):
        _check_metrics(metrics, run.config.evaluation.cutoffs)
    path = csv or out / RESULTS
    known = {record.digest: record for record in read_records(path) if record.metrics(split.value)}
    asked = {run.digest: run for run in chain(*planned)}
    todo = [run for digest, run in asked.items() if digest not in known]
    if not json:
        console.print(f"{len(asked)} runs, {len(asked) - len(todo)} of them done before", highlight=False)
    for number, record in enumerate(run_all(todo, data, jobs, split.value), start=1):
        append_record(path, record)
        known[record.digest] = record
        if not json:
            console.print(_line(record, split.value, metrics, f"{number}/{len(todo)}"), highlight=False)
    _show(loaded, planned, known, metrics, split.value, path, json)


def _name(table: str) -> str:
    return Path(table).stem if table.endswith((".yaml", ".yml")) else table


def _list_tables(json: bool) -> None:
    from models.experiments import load_table, table_names

    tables = {name: load_table(name) for name in table_names()}
    rows = [(name, loaded.title, len(loaded.lines())) for name, loaded in tables.items()]
    if json:
        print_json([{"table": name, "title": title, "lines": lines} for name, title, lines in rows])
    else:
        print_table("tables", ("table", "shows", "lines"), rows)


def _show(
    tables: list[AblationTable],
    planned: list[list[PlannedRun]],
    known: dict[str, RunRecord],
    metrics: list[str],
    split: Split,
    path: Path,
    json: bool,
) -> None:
    from models.experiments import summarize

    titles, entries = [], []
    for table, runs in zip(tables, planned, strict=True):
        # A run may have been made for a line of another name.
        records = [replace(known[run.digest], table=run.table, line=run.line) for run in runs]
        titles.append(table.title or runs[0].table)
        entries.append((summarize(records, metrics, split), records))
    if json:
        shown = [{"title": title, "lines": lines} for title, (lines, _) in zip(titles, entries, strict=True)]
        print_json({"results": str(path), "split": split, "tables": shown})
        return
    for title, (lines, records) in zip(titles, entries, strict=True):
        _print(title, split, lines, metrics, records)
    console.print(f"every run: {path}", highlight=False)


def _line(record: RunRecord, split: Split, metrics: list[str], count: str) -> str:
    found = record.metrics(split)
    shown = ", ".join(f"{name.upper()} {found[name]:.4f}" for name in metrics)
    return f"{count} {record.line}, seed {record.seed}: {shown}; {record.minutes:.1f} min"


def _print(
    title: str,
    split: Split,
    summary: list[dict[str, Any]],
    metrics: list[str],
    records: list[RunRecord],
) -> None:
    times = ", ".join(sorted({record.time for record in records}))
    devices = ", ".join(sorted({record.device for record in records}))
    rows = [
        (
            entry["line"],
            *(_spread(entry[name], entry[f"{name} sd"]) for name in metrics),
            entry["seeds"],
            entry["parameters"],
            f"{entry['minutes']:.1f}",
        )
        for entry in summary
    ]
    header = ("line", *(name.upper() for name in metrics), "seeds", "parameters", "minutes")
    print_table(f"{title} ({split} split, time {times}, {devices})", header, rows)


def _spread(mean: float, deviation: float | None) -> str:
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"'{text}' are not seeds", where="--seeds", fix="write numbers: 0,1,2") from None


def _check_metrics(metrics: list[str], cutoffs: list[int]) -> None:
    from models.evaluation.metrics import metric_names

    known = metric_names(cutoffs)
    for name in metrics:
        if name not in known:
            raise UserError(
                f"there is no metric '{name}'", where="--metric", fix=f"known: {', '.join(known)}"
            )
