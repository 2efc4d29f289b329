"""Length of the history on The Complete Journey: quality and cost of lengths, windows and sampling.

    PYTHONPATH=. python benchmarks/long_histories.py --shards data/completejourney --out runs/long
        [--epochs 3] [--seeds 0 1 2] [--lines "newest 50" "newest 4096"] [--set model.dim=64]
        [--csv long-histories.csv]

The lines of the table `completejourney/long-histories` (or `--table`): HR@10 and NDCG@10 on the test split,
and tokens/s of the training, the median over its reports after the first epoch, without validation. Events of
the history are tokens. Runs that are in the folder already are not run again.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
from pathlib import Path
from typing import Any

import torch

from models.experiments import load_table, read_records
from models.experiments.results import append_record
from models.experiments.runs import plan_runs, run_one
from models.runs.metrics_log import read_metrics

METRICS = ("hr@10", "ndcg@10")


def tokens_per_second(run: Path) -> float:
    """Median of what a run reported; its first epoch, which compiles and captures, only where it is all."""
    reports = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "train"]
    first = reports[0]["epoch"]
    later = [line for line in reports if line["epoch"] > first] or reports
    return statistics.median(line["tokens_per_second"] for line in later)


def run_table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what is left to do; one row a line, means over seeds."""
    overrides = list(options.set)
    if options.epochs:
        overrides.append(f"train.epochs={options.epochs}")
    table, results = load_table(options.table), options.out / "results.csv"
    planned = plan_runs(
        options.table, table, options.shards, options.out, seeds=options.seeds, overrides=overrides
    )
    planned = [run for run in planned if not options.lines or run.line in options.lines]
    known = {record.digest: record for record in read_records(results)}
    for run in planned:  # one after the other: they are timed
        if run.digest not in known:
            known[run.digest] = record = run_one(run, options.shards, "test")
            append_record(results, record)
            print(f"{run.line}, seed {run.seed}: {record.test['hr@10']:.4f}, {record.minutes:.1f} min")
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in planned:
        record = known[run.digest]
        rows.setdefault(run.line, []).append(
            {name: record.test[name] for name in METRICS}
            | {"tokens/s": tokens_per_second(run.folder)}
            | {"epochs": record.epochs, "steps": record.steps, "minutes": record.minutes}
        )
    return [
        {"line": line, "seeds": len(runs)}
        | {name: statistics.fmean(run[name] for run in runs) for name in runs[0]}
        for line, runs in rows.items()
    ]


def print_rows(rows: list[dict[str, Any]]) -> None:
    names = [*rows[0]]
    print(f"\n| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in rows:
        cells = [row["line"], str(row["seeds"]), *(f"{row[name]:.4f}" for name in METRICS)]
        cells += [f"{row['tokens/s']:,.0f}", f"{row['epochs']:.0f}", f"{row['steps']:,.0f}"]
        print(f"| {' | '.join([*cells, format(row['minutes'], '.1f')])} |")


def write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="prepared data of long histories")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of results.csv")
    parser.add_argument("--table", default="completejourney/long-histories", help="name or path of a table")
    parser.add_argument("--epochs", type=int, help="of every line, instead of the table's")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--lines", nargs="+", help="some of the table's lines, by name")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all lines: section.key=value")
    parser.add_argument("--csv", type=Path, help="default: long-histories.csv in --out")
    options = parser.parse_args()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{card}, torch {torch.__version__}")
    rows = run_table(options)
    print_rows(rows)
    write_csv(rows, options.csv or options.out / "long-histories.csv")


if __name__ == "__main__":
    main()
