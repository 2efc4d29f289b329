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
import statistics
from pathlib import Path
from typing import Any

from benchmarks.tables import planned_lines, table_options, write_csv
from models.experiments import read_records
from models.experiments.results import append_record
from models.experiments.runs import known_record, run_one
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
    planned, results = planned_lines(options, overrides), options.out / "results.csv"
    known = {record.digest: record for record in read_records(results)}
    for run in planned:  # one after the other: they are timed
        record = known_record(run, known)
        if record is None:
            record = run_one(run, options.shards, "test")
            append_record(results, record)
            print(f"{run.line}, seed {run.seed}: {record.test['hr@10']:.4f}, {record.minutes:.1f} min")
        known[run.digest] = record
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


def main() -> None:
    parser = table_options(
        __doc__, shards="prepared data of long histories", table="completejourney/long-histories"
    )
    parser.add_argument("--epochs", type=int, help="of every line, instead of the table's")
    options = parser.parse_args()
    rows = run_table(options)
    print_rows(rows)
    write_csv(rows, options.csv or options.out / "long-histories.csv")


if __name__ == "__main__":
    main()
