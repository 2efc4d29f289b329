"""The main job on MovieLens-1M, as a user would run it: prepare, train for ten minutes, evaluate.

    LRM_DATA=... python benchmarks/ml_1m.py [--minutes 10] [--recipe ml-1m/hstu-cpu]

Prints one table of prepare times and one of rankings: popularity, Markov, the model, and what the literature
gives. Ranking: leave one out, stable ties, every item ranked, seen items removed, time known.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PUBLISHED = {
    "HSTU, 2 blocks, best validation of 100 epochs (RecTools, stable ties)": {
        "ndcg@10": 0.1879,
        "hr@10": 0.3227,
    },
    "SASRec (RecTools, stable ties)": {"ndcg@10": 0.1622, "hr@10": 0.2877},
}


def lrm(*arguments: str) -> dict[str, Any]:
    """Run a command as a process of its own; its JSON, and its seconds."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "cli.main", *arguments, "--json"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    return {**json.loads(found.stdout), "seconds": time.perf_counter() - begin}


def prepare(name: str, source: str, work: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for workers in (1, 2):
        out = work / f"{name}-{workers}"
        arguments = [
            "prepare",
            name,
            "--input",
            f"{source}/{name}",
            "--out",
            str(out),
            "--workers",
            str(workers),
        ]
        rows.append((f"{name}, {workers} process{'es' * (workers > 1)}", lrm(*arguments)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--recipe", default="ml-1m/hstu-cpu")
    parser.add_argument("--backbone", default="hstu")
    options = parser.parse_args()
    source = os.environ.get("LRM_DATA")
    if not source:
        sys.exit("set LRM_DATA to the folder that holds ml-1m/ and taobao/")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        print("\n| prepare | events | users | items | seconds (whole process) |\n|" + " --- |" * 5)
        for label, result in [*prepare("ml-1m", source, work), *prepare("taobao", source, work)]:
            counts = result["counts"]
            sizes = " | ".join(f"{counts[name]:,}" for name in ("events", "users", "items"))
            print(f"| {label} | {sizes} | {result['seconds']:.1f} |")
        run = work / "run"
        flags = ["--data", str(work / "ml-1m-1"), "--recipe", options.recipe, "--backbone", options.backbone]
        trained = lrm("train", *flags, "--out", str(run), "--set", f"train.max_minutes={options.minutes}")
        result = lrm("evaluate", str(run), "--baselines")
    print(
        f"\n{options.recipe}: {trained['epochs']} epochs, {trained['steps']} steps, "
        f"{trained['minutes']:.1f} min of training; best validation after epoch {trained['best_epoch'] + 1}; "
        f"{result['users']} users, time {result['time']}, "
        f"seen items {'removed' if result['exclude_seen'] else 'kept'}"
    )
    names = ("ndcg@10", "hr@10", "mrr@10", "ndcg@50", "hr@50", "ndcg@200", "hr@200")
    print(f"\n| ranker | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for label, row in {**result["baselines"], options.recipe: result, **PUBLISHED}.items():
        print(f"| {label} | {' | '.join(f'{row[n]:.4f}' if n in row else '' for n in names)} |")


if __name__ == "__main__":
    main()
