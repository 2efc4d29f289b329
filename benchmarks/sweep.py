"""Lines of several ablation tables on several data sets, many at a time, within a time limit.

    PYTHONPATH=. python benchmarks/sweep.py benchmarks/sweeps/amazon.yaml --shards data
        --out runs/sweep --csv benchmarks/results/amazon.csv [--jobs 16] [--minutes 9] [--gpus 0 1]
        [--set train.max_minutes=3]

A sweep is a list, the most wanted first, of `table` (name or path), `data` (a folder of `--shards`), and
optionally `lines` (some of the table's, by name), `seeds`, `refit` (false: none) and `set` (settings of all
its lines). Jobs are spread over `--gpus`; a run that fails is said and the others go on; after `--minutes` no
other run begins. Each finished run is a line of the CSV file, which is added to; runs that stand there are
not run again.
"""

from __future__ import annotations

import argparse
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from models.experiments import load_table, read_records
from models.experiments.pool import as_done
from models.experiments.results import RunRecord, append_record
from models.experiments.runs import PlannedRun, known_record, plan_runs, run_one

Job = tuple[str, list[PlannedRun]]
"""A shard folder, and runs of which each has to wait for the one before it."""


def read_jobs(options: argparse.Namespace) -> list[Job]:
    """The runs of all sweeps that are not done, in order, each refit with the run that it refits."""
    done = {record.digest: record for record in read_records(options.csv)}
    jobs: dict[str, Job] = {}
    for part in (part for path in options.sweeps for part in yaml.safe_load(path.read_text())):
        for run in _planned(part, options):
            first = run if run.refits is None else run.refits
            if known_record(run, done) is None:
                shards = str(options.shards / part["data"])
                runs = jobs.setdefault(first.digest, (shards, []))[1]
                if run.digest not in {other.digest for other in runs}:
                    runs.append(run)
    return list(jobs.values())


def _planned(part: dict[str, Any], options: argparse.Namespace) -> Iterator[PlannedRun]:
    lines = part.get("lines")
    runs = plan_runs(
        part["table"],
        load_table(part["table"]),
        options.shards / part["data"],
        options.out / part["data"] / Path(part["table"]).stem,
        seeds=part.get("seeds"),
        overrides=[*part.get("set", []), *options.set],
        refit=part.get("refit", False),
    )
    names = {run.line for run in runs}
    if unknown := set(lines or ()) - names:
        raise SystemExit(f"{part['table']}: no lines {sorted(unknown)}; there are {sorted(names)}")
    for run in runs:
        wanted = run.refits is None or part.get("refit", True)
        if wanted and (lines is None or (run.refits or run).line in lines):
            yield run


def _run(job: Job, until: float) -> list[RunRecord | str]:
    shards, runs = job
    found: list[RunRecord | str] = []
    for run in runs:
        if time.time() > until:
            break
        try:
            found.append(run_one(run, shards, "test"))
        except Exception:
            found.append(f"{run.table}, {run.line}, seed {run.seed}: {traceback.format_exc(limit=-3)}")
            break
    return found


def sweep(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Run all; say and keep each result as it comes."""
    until = time.time() + 60 * options.minutes
    left = list(jobs)

    def in_time() -> Iterator[Job]:
        while left and time.time() < until:
            yield left.pop(0)

    gpus = options.gpus or [None]
    places = [gpus[number % len(gpus)] for number in range(options.jobs)]
    for done in as_done(partial(_run, until=until), in_time(), places):
        for result in done.result():
            _tell(result, options.csv)
    print(f"not begun: {sum(len(runs) for _, runs in left)}")


def _tell(result: RunRecord | str, path: Path) -> None:
    if isinstance(result, str):
        print("FAILED", result, flush=True)
        return
    append_record(path, result)
    scores = " ".join(
        f"{part['hr@10']:.4f}/{part['ndcg@10']:.4f}"
        for part in (result.valid, result.test)
        if "hr@10" in part
    )
    print(
        f"{result.data} {result.table}: {result.line}, seed {result.seed}: {scores} "
        f"epoch {result.best_epoch} of {result.epochs}, {result.steps} steps, {result.minutes:.2f} min",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweeps", type=Path, nargs="+", help="YAML files, the most wanted first")
    parser.add_argument("--shards", type=Path, required=True, help="folder of the shard folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--csv", type=Path, required=True, help="file that results are added to")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run begins")
    parser.add_argument("--gpus", nargs="*", default=[], help="GPUs to spread runs over, by number")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs: section.key=value")
    parser.add_argument("--plan", action="store_true", help="say what would be run, and end")
    options = parser.parse_args()
    jobs = read_jobs(options)
    print(f"{sum(len(runs) for _, runs in jobs)} runs in {len(jobs)} jobs")
    if options.plan:
        for shards, runs in jobs:
            print(shards, *(f"{run.table}: {run.line}, seed {run.seed};" for run in runs))
        return
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    sweep(jobs, options)


if __name__ == "__main__":
    main()
