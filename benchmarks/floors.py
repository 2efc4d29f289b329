"""Floors of a generated log: seconds and peak memory of each, what validation chose, and what it reaches.

    python benchmarks/floors.py                       20 million events of 400,000 users, 100,000 items
    python benchmarks/floors.py --events 1000000      a quick look
    python benchmarks/floors.py --shards data/mine    of a shard folder

Each floor is evaluated in a process of its own, on the test split, without confidence intervals: reading the
shards, counting, choosing on validation and ranking every item are in its time, imports and Numba's compiler
are not. CPU seconds are those of all threads, whatever else the machine does. Memory is the largest resident
size of that process (Linux), imports of Torch and Numba included: the first line has what these take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from synthetic import machine

import behavior
from behavior.shards.folder import open_shards
from behavior.synthetic import SyntheticConfig, generate
from models.evaluation.baselines import BASELINES
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.floors import Floors

EVENTS_A_USER = 50
USERS_AN_ITEM = 4
WARM_UP_EVENTS = 20_000
IMPORTS = "imports"


def make(events: int, folder: Path) -> Path:
    """Shards of a generated log of about as many events, with funnels, repeats and successors."""
    users = events // EVENTS_A_USER
    config = SyntheticConfig(
        users=users,
        items=max(100, users // USERS_AN_ITEM),
        interests=max(40, users // 400),
        personas=max(20, users // 1000),
        mean_events=EVENTS_A_USER,
    )
    spec = generate(config).write(folder / "raw")
    behavior.prepare(spec, folder / "shards")
    return folder / "shards"


def measure(shards: Path, name: str) -> dict[str, Any]:
    """One floor, in this process."""
    record: dict[str, Any] = {}
    if name != IMPORTS:
        begin, cpu = time.perf_counter(), time.process_time()
        floors = Floors(open_shards(shards), "test", EvaluationConfig(cutoffs=[10], bootstrap=0))
        reason = floors.left_out().get(name)
        record = {"left_out": reason} if reason else floors.judge(name).report()
        record |= {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
    status = Path("/proc/self/status").read_text()
    return record | {"peak": int(status.partition("VmHWM:")[2].split()[0]) * 1024}


def in_a_process(shards: Path, name: str) -> dict[str, Any]:
    """One floor, in a process of its own."""
    command = [sys.executable, __file__, "--shards", str(shards), "--floor", name]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def print_table(shards: Path) -> None:
    counts = open_shards(shards).manifest.counts
    print(f"{counts.events:,} events of {counts.users:,} users, {counts.items:,} items; {machine()}\n")
    print("| floor | seconds | CPU seconds | peak GB | HR@10 | NDCG@10 | repeat, explore NDCG@10 | chosen |")
    print(f"|{' --- |' * 8}")
    for name in (IMPORTS, *BASELINES):
        found = in_a_process(shards, name)
        cells = [name, "", "", f"{found['peak'] / 1e9:.2f}", "", "", "", found.get("left_out", "")]
        if "hr@10" in found:
            parts = (found["repeats"][part].get("ndcg@10", 0.0) for part in ("repeat", "explore"))
            chosen = ", ".join(f"{key} {value:g}" for key, value in found.get("chosen", {}).items())
            cells[1:3] = [f"{found['seconds']:.1f}", f"{found['cpu_seconds']:.1f}"]
            cells[4:] = [f"{found['hr@10']:.4f}", f"{found['ndcg@10']:.4f}"]
            cells += [", ".join(f"{part:.4f}" for part in parts), chosen]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--shards", type=Path, help="a shard folder, instead of a generated log")
    parser.add_argument("--floor", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.floor:
        print(json.dumps(measure(options.shards, options.floor)))
        return
    with tempfile.TemporaryDirectory() as folder:
        small = make(WARM_UP_EVENTS, Path(folder) / "small")
        for name in BASELINES:
            in_a_process(small, name)
        print_table(options.shards or make(options.events, Path(folder)))


if __name__ == "__main__":
    main()
