"""One model over merged domains against one a domain: HR@10 and NDCG@10 of each domain apart.

    lrm prepare amazon-three --input $LRM_DATA/amazon --out data/amazon-three
    PYTHONPATH=. python benchmarks/domains.py --shards data/amazon-three --out runs/domains
        [--seeds 0] [--lines merged "toys alone"] [--set train.epochs=5] [--csv domains.csv]

The lines of the table `amazon/domains` (or `--table`), means over seeds. All on one shard folder: users,
targets and candidates of a domain are the same for every line. Runs that are there already are not run again.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
from pathlib import Path
from typing import Any

import torch

from models.evaluate_run import evaluate
from models.experiments import load_table, read_records
from models.experiments.results import append_record
from models.experiments.runs import PlannedRun, plan_runs, run_one

METRICS = ("hr@10", "ndcg@10")


def of_domains(run: PlannedRun) -> dict[str, dict[str, Any]]:
    """Metrics of each domain that a run has targets of."""
    report = evaluate(run.folder, "test", by=["domain"], bootstrap=0, device=run.config.train.device)
    found: dict[str, dict[str, Any]] = report["breakdown"]["domain"]
    return found


def run_table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what is left to do; one row a line and domain, means over seeds."""
    results = options.out / "results.csv"
    planned = plan_runs(
        options.table,
        load_table(options.table),
        options.shards,
        options.out,
        seeds=options.seeds,
        overrides=options.set,
    )
    planned = [run for run in planned if not options.lines or run.line in options.lines]
    known = {record.digest for record in read_records(results)}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in planned:
        if run.digest not in known:
            append_record(results, run_one(run, options.shards, "test"))
        for domain, metrics in of_domains(run).items():
            found.setdefault((run.line, domain), []).append(metrics)
            print(f"{run.line}, {domain}, seed {run.seed}: {metrics['hr@10']:.4f}, {metrics['ndcg@10']:.4f}")
    return [
        {"line": line, "domain": domain, "seeds": len(runs), "targets": runs[0]["targets"]}
        | {name: statistics.fmean(run[name] for run in runs) for name in METRICS}
        | {f"{name} sd": statistics.stdev(run[name] for run in runs) for name in METRICS if len(runs) > 1}
        for (line, domain), runs in found.items()
    ]


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A line of the table a row, HR@10/NDCG@10 of each domain a column."""
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    cells = {(row["line"], row["domain"]): f"{row['hr@10']:.4f}/{row['ndcg@10']:.4f}" for row in rows}
    print(f"\n| HR@10/NDCG@10 | {' | '.join(domains)} |\n|{' --- |' * (len(domains) + 1)}")
    for line in dict.fromkeys(row["line"] for row in rows):
        print(f"| {line} | {' | '.join(cells.get((line, domain), '') for domain in domains)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", required=True, help="prepared data of several domains")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of results.csv")
    parser.add_argument("--table", default="amazon/domains", help="name or path of a table")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--lines", nargs="+", help="some of the table's lines, by name")
    parser.add_argument("--set", nargs="+", default=[], help="settings of all lines: section.key=value")
    parser.add_argument("--csv", type=Path, help="default: domains.csv in --out")
    options = parser.parse_args()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    print(f"{card}, torch {torch.__version__}")
    rows = run_table(options)
    print_rows(rows)
    with (options.csv or options.out / "domains.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
