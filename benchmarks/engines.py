"""`lrm prepare` on a Flink cluster beside a local run: time, CPU time and memory of each kind of process.

    make engines
    python benchmarks/engines.py --events 10000000 30000000

Two task managers of 1 GB with two slots each (examples/engines/flink), worker processes beside them, and a
log of CSV files in which one user has a sixth of all events. Everything runs on one machine, so its cores are
shared. Heap and direct memory are what Flink's own metrics say, asked for every second; the rest is
resident memory. CPU time is that of all processes of the cluster and of `lrm`, while the job runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.engines.flink import FlinkCluster  # noqa: E402
from tests.engines.processes import Processes  # noqa: E402

SPEC = {
    "name": "engines",
    "events": {
        "files": "*.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "behavior": {"column": "behavior"},
    },
    "timestamp_unit": "s",
    "behaviors": ["view", "cart", "buy"],
    "targets": ["buy"],
}
PART = 1_000_000
TICK = os.sysconf("SC_CLK_TCK")
METRICS = {"heap": "Status.JVM.Memory.Heap.Used", "direct": "Status.JVM.Memory.Direct.MemoryUsed"}


def write_log(folder: Path, events: int) -> None:
    """CSV files of a million events each."""
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    users, items = max(2, events // 50), max(2, events // 100)
    for number in range(-(-events // PART)):
        rng = np.random.default_rng(number)
        size = min(PART, events - number * PART)
        user = np.where(rng.random(size) < 1 / 6, 0, rng.integers(1, users, size))
        item = (items * rng.random(size) ** 3).astype(np.int64)
        table = pa.table(
            {
                "user": user,
                "item": item,
                "behavior": pa.array(SPEC["behaviors"]).take(pa.array(rng.integers(0, 3, size))),
                "time": 1_600_000_000 + number * PART + rng.integers(0, PART, size),
            }
        )
        csv.write_csv(table, folder / f"part-{number:04d}.csv")


def digest(folder: Path) -> dict[str, str]:
    """Path -> checksum of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


class Watch:
    """Peaks of resident memory by kind of process, and CPU time, of processes that have a mark."""

    def __init__(self, processes: Processes, cluster: FlinkCluster | None) -> None:
        self.processes, self.cluster = processes, cluster
        self.peaks: dict[str, float] = defaultdict(float)
        self.cpu: dict[int, float] = {}
        self.before = {member: cpu_seconds(member) for member in processes.members()}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.done.wait(1):
            names = {process.pid: name for name, process in list(self.processes.running.items())}
            for member in self.processes.members():
                with suppress(OSError, ValueError, IndexError):
                    self.cpu[member] = cpu_seconds(member)
                    kind = names.get(member) or (
                        "worker" if "sdk_worker_main" in command_of(member) else "other"
                    )
                    kind = kind.rstrip("-0123456789")
                    resident = int(Path(f"/proc/{member}/statm").read_text().split()[1]) * 4096
                    self.peaks[kind] = max(self.peaks[kind], resident / 2**20)
            with suppress(OSError):
                self._ask_flink()

    def _ask_flink(self) -> None:
        if self.cluster is None:
            return
        for manager in self.cluster.ask("/taskmanagers")["taskmanagers"]:
            for kind, metric in METRICS.items():
                for found in self.cluster.ask(f"/taskmanagers/{manager['id']}/metrics?get={metric}"):
                    self.peaks[kind] = max(self.peaks[kind], float(found["value"]) / 2**20)

    def end(self) -> float:
        """CPU seconds."""
        self.done.set()
        self.thread.join()
        return sum(total - self.before.get(member, 0.0) for member, total in self.cpu.items())


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def prepare(processes: Processes, cluster: FlinkCluster | None, log: Path, out: Path) -> dict[str, float]:
    """Run `lrm prepare`; what it took."""
    flags = ["--runner", "PortableRunner", "--", *cluster.options()] if cluster is not None else []
    command = [sys.executable, "-m", "cli.main", "prepare", str(log / "spec.yaml"), "--out", str(out), *flags]
    watch, begin = Watch(processes, cluster), time.monotonic()
    process = processes.start("lrm", command, {"PYTHONPATH": str(ROOT)})
    code = process.wait()
    seconds, cpu = time.monotonic() - begin, watch.end()
    if code:
        print(processes.logs(20))
        raise SystemExit(f"exit code {code} after {seconds:.0f} s")
    return {"seconds": seconds, "cpu": cpu, **watch.peaks}


def plan(cluster: FlinkCluster) -> tuple[int, int]:
    """Operators of the newest job, and the edges between them over which data are sent anew."""
    newest = max(cluster.ask("/jobs/overview")["jobs"], key=lambda job: job["start-time"])
    nodes = cluster.ask(f"/jobs/{newest['jid']}/plan")["plan"]["nodes"]
    edges = [edge for node in nodes for edge in node.get("inputs", [])]
    return len(nodes), sum(edge["ship_strategy"] != "FORWARD" for edge in edges)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[10_000_000])
    parser.add_argument("--folder", type=Path, help="for logs and results; default: a temporary one")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lrm-engines-", dir=options.folder))
    kinds = ["heap", "direct", "task-manager", "worker", "lrm"]
    print("| events | where | seconds | CPU s |" + "".join(f" {kind} MB |" for kind in kinds))
    try:
        for events in options.events:
            log = folder / f"log-{events}"
            write_log(log, events)
            alone = Processes(folder / f"local-{events}")
            local = prepare(alone, None, log, folder / "local")
            alone.end()
            cluster = FlinkCluster(folder / f"flink-{events}")
            try:
                cluster.wait()
                remote = prepare(cluster.processes, cluster, log, folder / "flink")
                operators, shuffles = plan(cluster)
            finally:
                cluster.end()
            for where, took in (("local", local), ("Flink", remote)):
                memory = "".join(f" {took[kind]:.0f} |" if kind in took else " |" for kind in kinds)
                print(
                    f"| {events:,} | {where} | {took['seconds']:.0f} | {took['cpu']:.0f} |{memory}",
                    flush=True,
                )
            same = digest(folder / "local") == digest(folder / "flink")
            print(
                f"{operators} operators, {shuffles} shuffles; bytes {'equal' if same else 'DIFFER'}",
                flush=True,
            )
            for name in ("local", "flink", log.name):
                shutil.rmtree(folder / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
