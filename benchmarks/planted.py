"""Small generated logs, each of which one part of a model is needed for: HR beside what is possible at best.

    PYTHONPATH=. python benchmarks/planted.py --out runs/planted [--structures repeats funnel] [--seeds 0 1 2]

For each log of `behavior.synthetic.planted` the lines of the table `planted/<name>`: those that have what the
structure needs come near the best possible ranker, the others do not. Means over seeds, of the log and of the
training alike. On a CPU within minutes; runs that are there already are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import behavior
from behavior.synthetic.planted import PLANTED
from models.experiments import load_table
from models.experiments.runs import plan_runs, run_one

K = (1, 10)


def rows_of(name: str, seeds: list[int], out: Path) -> list[tuple[str, list[float]]]:
    """HR@1 and HR@10 of the best ranker and of each line of the table, means over seeds."""
    table = f"planted/{name}"
    found: dict[str, list[list[float]]] = {}
    for seed in seeds:
        log = PLANTED[name](seed=seed)
        found.setdefault("best possible", []).append([log.best_hr(k) for k in K])
        shards = out / f"{name}-{seed}"
        if not shards.exists():
            behavior.prepare(log.write(out / f"raw-{name}-{seed}"), shards)
        for run in plan_runs(table, load_table(table), shards, out / f"runs-{name}-{seed}", seeds=[seed]):
            test = run_one(run, str(shards), "test").test
            found.setdefault(run.line, []).append([test[f"hr@{k}"] for k in K])
    return [
        (line, [statistics.fmean(values) for values in zip(*runs, strict=True)])
        for line, runs in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of logs and runs")
    parser.add_argument("--structures", nargs="+", choices=[*PLANTED], default=[*PLANTED])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    print(f"\n| structure | setting | {' | '.join(f'HR@{k}' for k in K)} |\n|{' --- |' * (2 + len(K))}")
    for name in options.structures:
        for line, values in rows_of(name, options.seeds, options.out):
            print(f"| {name} | {line} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)


if __name__ == "__main__":
    main()
