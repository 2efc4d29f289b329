"""The demo for several seeds: how far floors, SASRec and HSTU get towards the oracle.

python benchmarks/demo.py [--seeds 0 1 2]
python benchmarks/demo.py --floors        without a training: seconds a seed
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from typing import Any

import behavior
from behavior.synthetic import SyntheticConfig, generate
from models.config import load_config
from models.evaluation.baselines import BASELINES, evaluate_baselines

RANKERS = (*BASELINES, "sasrec", "hstu", "history", "latent")


def demo(seed: int) -> dict[str, Any]:
    """What `lrm demo --json` says for a seed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cli.main",
            "demo",
            "--out",
            f"{folder}/demo",
            "--seed",
            str(seed),
            "--json",
        ]
        found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def floors(seed: int) -> dict[str, Any]:
    """The floors of the demo's log, as the demo evaluates them."""
    with tempfile.TemporaryDirectory() as folder:
        log = generate(SyntheticConfig(seed=seed))
        shards = behavior.prepare(log.write(f"{folder}/raw"), f"{folder}/shards")
        found, _ = evaluate_baselines(None, shards, "test", load_config("demo/hstu").evaluation)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--floors", action="store_true", help="floors alone")
    options = parser.parse_args()
    print(f"NDCG@10 of the last purchase; {os.cpu_count()} cores")
    if options.floors:
        print(f"| seed | {' | '.join(BASELINES)} |\n|{' --- |' * (len(BASELINES) + 1)}")
        for seed in options.seeds:
            found = floors(seed)
            scores = " | ".join(f"{found[name]['ndcg@10']:.4f}" for name in BASELINES)
            print(f"| {seed} | {scores} |", flush=True)
        return
    print(
        f"| seed | users | {' | '.join(RANKERS)} | seconds | CPU seconds |\n|{' --- |' * (len(RANKERS) + 4)}"
    )
    for seed in options.seeds:
        before = cpu_seconds()
        record = demo(seed)
        cpu = cpu_seconds() - before
        results = record["results"]
        scores = " | ".join(f"{results[name]['ndcg@10']:.4f}" for name in RANKERS)
        seconds = record["seconds"]["all"]
        print(f"| {seed} | {results['hstu']['users']} | {scores} | {seconds:.0f} | {cpu:.0f} |", flush=True)


if __name__ == "__main__":
    main()
