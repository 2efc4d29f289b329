"""One model over merged domains against one a domain: HR@10 and NDCG@10 of each domain apart.

    lrm prepare amazon-three --input $LRM_DATA/amazon --out data/amazon-three
    PYTHONPATH=. python benchmarks/domains.py --shards data/amazon-three --out runs/domains
        [--seeds 0] [--lines merged "toys alone"] [--set train.epochs=5] [--csv domains.csv]

The lines of the table `amazon/domains` (or `--table`), means over seeds. All on one shard folder: users,
targets and candidates of a domain are the same for every line. Runs that are there already are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.tables import planned_lines, table_options, write_csv
from models.evaluate_run import evaluate
from models.experiments import read_records
from models.experiments.results import append_record
from models.experiments.runs import PlannedRun, known_record, run_one

METRICS = ("hr@10", "ndcg@10")


def of_domains(run: PlannedRun) -> dict[str, dict[str, Any]]:
    """Metrics of each domain that a run has targets of."""
    report = evaluate(run.folder, "test", by=["domain"], bootstrap=0, device=run.config.train.device)
    found: dict[str, dict[str, Any]] = report["breakdown"]["domain"]
    return found


def run_table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train what is left to do; one row a line and domain, means over seeds."""
    results = options.out / "results.csv"
    known = {record.digest: record for record in read_records(results)}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in planned_lines(options, options.set):
        if known_record(run, known) is None:
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
    options = table_options(
        __doc__, shards="prepared data of several domains", table="amazon/domains"
    ).parse_args()
    rows = run_table(options)
    print_rows(rows)
    write_csv(rows, options.csv or options.out / "domains.csv")


if __name__ == "__main__":
    main()
