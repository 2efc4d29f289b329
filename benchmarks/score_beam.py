"""Users a second of `lrm recommend` and of the same as a Beam job, over files of histories; do they agree?

    python benchmarks/score_beam.py [--users 20000] [--items 20000] [--dim 64] [--length 100] [--files 8]
                                    [--copies 5]

A log is generated, prepared and learned from for one epoch, in a temporary folder; its users' histories are
written to Parquet files of single events, several times under other names (`--copies`). Then the commands are
run, each as a process of its own, imports and loading of the model included: `lrm recommend` with one thread
and with one a core, and the job with `--workers` 1 and 2. Beside the wall time stands the computing time of
all processes, and the load of the machine before each.

What the jobs wrote is compared: byte by byte with each other, and row by row with what the command wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from synthetic import machine

import behavior
import models
from behavior.synthetic import SyntheticConfig, generate


def make(folder: Path, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """A run, and a folder of histories."""
    log = generate(
        SyntheticConfig(users=arguments.users, items=arguments.items, mean_events=float(arguments.events))
    )
    shards = behavior.prepare(log.write(folder / "raw"), folder / "shards")
    settings = [f"model.dim={arguments.dim}", f"model.max_length={arguments.length}", "train.epochs=1"]
    models.train(
        models.load_config("default", [*settings, "train.device=cpu"]), shards.folder, folder / "run"
    )
    histories = folder / "histories"
    histories.mkdir()
    single = pa.concat_tables(_events(shards))
    named = single["user"].cast(pa.string())
    copies = [pc.binary_join_element_wise(named, str(number), "-") for number in range(arguments.copies)]
    events = pa.concat_tables(single.set_column(0, "user", users) for users in copies)
    step = -(-len(events) // arguments.files)
    for number in range(arguments.files):
        part = events.slice(number * step, step)
        pq.write_table(part, histories / f"part-{number:03d}.parquet", row_group_size=200_000)
    return folder / "run", histories


def _events(shards: behavior.ShardFolder) -> list[pa.Table]:
    """Single events with the ids of the log, user after user."""
    ids = shards.items()["id"].combine_chunks()
    names = pa.array(shards.manifest.behaviors)
    found = []
    for entry in shards.sequence_files():
        table = pq.read_table(shards.folder.path / entry.path)
        owner = pc.list_parent_indices(table["item"].combine_chunks())
        item = pc.list_flatten(table["item"])
        columns = {
            "user": table["user"].take(owner),
            "item": ids.take(pc.subtract(item.cast(pa.int64()), shards.first_item)),
            "behavior": names.take(pc.subtract(pc.list_flatten(table["behavior"]).cast(pa.int64()), 1)),
            "timestamp": pc.list_flatten(table["timestamp"]),
        }
        found.append(pa.table(columns))
    return found


def timed(command: list[str], threads: int) -> dict[str, Any]:
    """Wall and computing seconds of a command."""
    environment = {**os.environ, "LRM_THREADS": str(threads)}
    load, before, begin = (
        os.getloadavg()[0],
        resource.getrusage(resource.RUSAGE_CHILDREN),
        time.perf_counter(),
    )
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": round(wall, 1),
        "computing_seconds": round(computing, 1),
        "load_before": round(load, 1),
    }


def agreement(plain: Path, job: Path) -> dict[str, Any]:
    """Rows of the job that are those of the command, and the largest difference of scores."""
    order = [("user", "ascending"), ("rank", "ascending")]
    one = pq.read_table(plain).sort_by(order)
    other = pq.read_table(job / "recommendations").sort_by(order)
    same = pc.and_(pc.equal(one["user"], other["user"]), pc.equal(one["item"], other["item"]))
    differ = pc.abs(pc.subtract(one["score"], other["score"]))
    return {
        "rows": len(one),
        "rows_with_the_same_item": pc.sum(same).as_py(),
        "largest_difference_of_scores": pc.max(differ).as_py(),
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=60, help="mean events a user")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--copies", type=int, default=5, help="of each history, under other names")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--k", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run, histories = make(folder, arguments)
        asked = [
            "recommend",
            str(run),
            "--histories",
            str(histories),
            "--k",
            str(arguments.k),
            "--at",
            "2030-01-01",
        ]
        asked += ["--device", "cpu"]
        cores = len(os.sched_getaffinity(0))
        found: dict[str, Any] = {}
        for threads in sorted({1, cores}):
            name = f"command, threads {threads}"
            found[name] = timed([*asked, "--out", str(folder / "plain.parquet")], threads)
        for workers in (1, 2):
            out = str(folder / f"job{workers}")
            job = ["--runner", "local", "--workers", str(workers), "--out", out]
            found[f"job, workers {workers}"] = timed([*asked, *job], 1)
        asked_about = arguments.users * arguments.copies
        for one in found.values():
            one["users_a_second"] = round(asked_about / one["seconds"])
        record = {
            "machine": machine(),
            **vars(arguments),
            "measured": found,
            "jobs_wrote_the_same_bytes": contents(folder / "job1") == contents(folder / "job2"),
            "agreement": agreement(folder / "plain.parquet", folder / "job2"),
        }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
