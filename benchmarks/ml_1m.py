"""The main job on MovieLens-1M, as a user would run it: prepare, train, evaluate.

    LRM_DATA=... python benchmarks/ml_1m.py                         # ten minutes of training on a CPU
    python benchmarks/ml_1m.py --shards data/ml-1m --recipes ml-1m/hstu ml-1m/sasrec

Prints a table of prepare times (unless shards are given) and one of rankings: popularity, Markov, the models
and what is published. Leave one out, stable ties, every item ranked, seen items removed, time known.
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


def print_prepare(source: str, work: Path) -> Path:
    """Prepare both sets with one and with two processes; the MovieLens shards."""
    print("\n| prepare | events | users | items | seconds (whole process) |\n|" + " --- |" * 5)
    for label, result in [*prepare("ml-1m", source, work), *prepare("taobao", source, work)]:
        counts = result["counts"]
        sizes = " | ".join(f"{counts[name]:,}" for name in ("events", "users", "items"))
        print(f"| {label} | {sizes} | {result['seconds']:.1f} |")
    return work / "ml-1m-1"


def train(recipe: str, minutes: float, shards: Path, work: Path) -> dict[str, Any]:
    """Train and evaluate one recipe; the metrics."""
    run = work / "runs" / recipe.replace("/", "-")
    arguments = ["--data", str(shards), "--recipe", recipe, "--out", str(run)]
    trained = lrm("train", *arguments, "--set", f"train.max_minutes={minutes}")
    result = lrm("evaluate", str(run), "--baselines")
    print(
        f"\n{recipe}: {trained['epochs']} epochs, {trained['steps']} steps, "
        f"{trained['minutes']:.2f} min of training, validations included; best validation after epoch "
        f"{trained['best_epoch']}; {result['users']} users, time {result['time']}, "
        f"seen items {'removed' if result['exclude_seen'] else 'kept'}"
    )
    return result


def machine() -> str:
    """What the numbers were measured on."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {os.cpu_count()} cores, {card}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="most minutes of training, each")
    parser.add_argument("--recipes", nargs="+", default=["ml-1m/hstu-cpu"])
    parser.add_argument("--shards", type=Path, help="prepared MovieLens-1M; default: prepare from $LRM_DATA")
    options = parser.parse_args()
    source = os.environ.get("LRM_DATA", "")
    if not source and options.shards is None:
        sys.exit("set LRM_DATA to the folder that holds ml-1m/ and taobao/, or name --shards")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards = options.shards or print_prepare(source, work)
        results = {recipe: train(recipe, options.minutes, shards, work) for recipe in options.recipes}
    baselines = next(iter(results.values()))["baselines"]
    names = ("ndcg@10", "hr@10", "mrr@10", "ndcg@50", "hr@50", "ndcg@200", "hr@200")
    print(f"\n| ranker | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for label, row in {**baselines, **results, **PUBLISHED}.items():
        print(f"| {label} | {' | '.join(f'{row[n]:.4f}' if n in row else '' for n in names)} |")


if __name__ == "__main__":
    main()
