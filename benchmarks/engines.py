"""`lrm prepare` on clusters beside a local run: time, CPU time and memory of each kind of process.

    make engines
    python benchmarks/engines.py --events 10000000 30000000 --engines flink spark prism

Flink: two task managers of 1 GB with two slots each (examples/engines/flink), of which a job takes one each.
Spark: two executors with 512 MB of heap and two cores each, some 900 MB with what Spark adds to it. Prism
with `lrm` itself as the worker. Worker processes are beside them. The log is CSV files; one user has a sixth
of all events, or as many as `--hot` says. Everything runs on one machine, so its cores are shared. Each
cluster prepares a small log first, so that it is warm.

Heap is what the collectors say they found, direct memory what Flink's own metrics say, asked for every five
seconds; the rest is resident memory of the largest process of a kind: all of it, and without the pages of
files, which the system can take back. CPU time is that of all processes of the cluster and of `lrm`, while
the job runs; beside it what everything else on the machine took meanwhile (Linux).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.engines.conftest import ENGINES, QUICK, Cluster  # noqa: E402
from tests.engines.flink import FlinkCluster  # noqa: E402
from tests.engines.processes import Processes  # noqa: E402
from tests.engines.spark import SparkCluster  # noqa: E402

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
SMALL = 100_000
KINDS = ["heap", "direct", "engine", "worker", "worker, own", "lrm", "lrm, own"]
ENGINE_PROCESSES = {"task-manager": "engine", "executor": "engine", "prism": "engine"}
_COLLECTED = re.compile(r"(\d+)M->\d+M\(")
TICK = os.sysconf("SC_CLK_TCK")
METRICS = {"direct": "Status.JVM.Memory.Direct.MemoryUsed"}
SECONDS_BETWEEN_QUESTIONS = 5
SECONDS_AT_MOST = 3600


def write_log(folder: Path, events: int, hot: float) -> None:
    """CSV files of a million events each, of which one user has a share."""
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(json.dumps(SPEC))
    users, items = max(2, events // 50), max(2, events // 100)
    for number in range(-(-events // PART)):
        rng = np.random.default_rng(number)
        size = min(PART, events - number * PART)
        user = np.where(rng.random(size) < hot, 0, rng.integers(1, users, size))
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

    def __init__(self, processes: Processes, cluster: Cluster | None) -> None:
        self.processes, self.cluster = processes, cluster
        self.peaks: dict[str, float] = defaultdict(float)
        self.cpu: dict[int, float] = {}
        self.kinds: dict[int, str] = {}
        self.before = {member: cpu_seconds(member) for member in processes.members()}
        self.busy = busy_seconds()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asked = 0.0
        while not self.done.wait(1):
            names = {process.pid: name for name, process in list(self.processes.running.items())}
            for member in self.processes.members():
                with suppress(OSError, ValueError, IndexError):
                    self.cpu[member] = cpu_seconds(member)
                    kind = names.get(member, kind_of(command_of(member))).rstrip("-0123456789")
                    kind = self.kinds[member] = ENGINE_PROCESSES.get(kind, kind)
                    every, of_files = resident(member)
                    self.peaks[kind] = max(self.peaks[kind], every)
                    self.peaks[f"{kind}, own"] = max(self.peaks[f"{kind}, own"], every - of_files)
            if time.monotonic() - asked > SECONDS_BETWEEN_QUESTIONS:
                asked = time.monotonic()
                with suppress(OSError):
                    self._ask_flink()

    def _ask_flink(self) -> None:
        if not isinstance(self.cluster, FlinkCluster):
            return
        for manager in self.cluster.ask("/taskmanagers")["taskmanagers"]:
            for kind, metric in METRICS.items():
                for found in self.cluster.ask(f"/taskmanagers/{manager['id']}/metrics?get={metric}"):
                    self.peaks[kind] = max(self.peaks[kind], float(found["value"]) / 2**20)

    def end(self) -> dict[str, float]:
        """CPU seconds, by kind of process."""
        self.done.set()
        self.thread.join()
        for log in self.processes.folder.rglob("gc-*.txt"):
            found = [int(size) for size in _COLLECTED.findall(log.read_text())]
            self.peaks["heap"] = max([self.peaks["heap"], *found])
        spent: dict[str, float] = defaultdict(float)
        for member, kind in self.kinds.items():
            spent[kind] += self.cpu[member] - self.before.get(member, 0.0)
        return spent


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds() -> float:
    """CPU seconds that the whole machine has spent on processes since it started."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / TICK


def resident(process: int) -> tuple[float, float]:
    """Megabytes that a process has in memory, and how many of them are pages of files."""
    fields = Path(f"/proc/{process}/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20, int(fields[2]) * 4096 / 2**20


def kind_of(command: str) -> str:
    """What a process is that others have started."""
    if "sdk_worker_main" in command or "pipelines.boot" in command:
        return "worker"
    if "cli.main" in command:  # a process that a local run has forked
        return "lrm"
    return "executor" if "CoarseGrainedExecutorBackend" in command else "other"


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def prepare(
    processes: Processes, cluster: Cluster | None, log: Path, out: Path, more: Sequence[str] = ()
) -> dict[str, float]:
    """Run `lrm prepare`, with more options of Beam; what it took."""
    flags = [] if cluster is None else ["--runner", "PortableRunner", "--", *cluster.options(), *more]
    command = [sys.executable, "-m", "cli.main", "prepare", str(log / "spec.yaml"), "--out", str(out), *flags]
    watch, begin = Watch(processes, cluster), time.monotonic()
    process = processes.start("lrm", command, {"PYTHONPATH": str(ROOT)})
    try:
        code = process.wait(SECONDS_AT_MOST)
    except subprocess.TimeoutExpired:
        code = -1
    seconds, busy = time.monotonic() - begin, busy_seconds() - watch.busy
    cpu = watch.end()
    if code:
        print(processes.logs(20), file=sys.stderr)
        raise RuntimeError(f"exit code {code} after {seconds:.0f} s")
    shown = ", ".join(f"{kind} {spent:.0f}" for kind, spent in sorted(cpu.items()))
    print(f"CPU seconds: {shown}", file=sys.stderr, flush=True)
    spent = sum(cpu.values())
    return {"seconds": seconds, "cpu": spent, "others": max(0.0, busy - spent), **watch.peaks}


def on_cluster(
    name: str, folder: Path, small: Path, log: Path, out: Path, more: Sequence[str]
) -> tuple[dict[str, float], str]:
    """What it took on a warm cluster, and what there is to say of the job."""
    kind = ENGINES[name]
    # The others say by themselves what their collectors find, or have none.
    cluster = SparkCluster(folder, java=QUICK, collector=True) if name == "spark" else kind(folder)
    try:
        cluster.wait()
        prepare(cluster.processes, cluster, small, folder / "small", more)
        took = prepare(cluster.processes, cluster, log, out, more)
        said = ""
        if isinstance(cluster, FlinkCluster):
            operators, shuffles = plan(cluster)
            said = f"; {operators} operators, {shuffles} edges that are no forwards"
        return took, said
    finally:
        cluster.end()


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
    parser.add_argument("--engines", nargs="*", choices=list(ENGINES), default=["flink"])
    parser.add_argument("--hot", type=int, help="events of the largest user; default: a sixth of all")
    parser.add_argument("--beam", action="append", default=[], help="one more option of Beam for clusters")
    parser.add_argument("--folder", type=Path, help="for logs and results; default: a temporary one")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lrm-engines-", dir=options.folder))
    print("| events | where | seconds | CPU s | of others |" + "".join(f" {kind} |" for kind in KINDS))
    try:
        small = folder / "log-small"
        write_log(small, SMALL, 0.1)
        for events in options.events:
            log = folder / f"log-{events}"
            write_log(log, events, 1 / 6 if options.hot is None else min(options.hot / events, 0.9))
            alone = Processes(folder / f"local-{events}")
            took = prepare(alone, None, log, folder / "local")
            alone.end()
            print(line(events, "local", took), flush=True)
            wanted = digest(folder / "local")
            shutil.rmtree(folder / "local")
            for name in options.engines:
                where = folder / f"{name}-{events}"
                try:
                    took, said = on_cluster(name, where, small, log, folder / "out", options.beam)
                except RuntimeError as error:
                    print(f"| {events:,} | {name} | {error} |", flush=True)
                    shutil.rmtree(folder / "out", ignore_errors=True)
                    continue
                same = "equal" if digest(folder / "out") == wanted else "DIFFER"
                print(line(events, name, took) + f" bytes {same}{said}", flush=True)
                shutil.rmtree(folder / "out")
                shutil.rmtree(where)
            shutil.rmtree(log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def line(events: int, where: str, took: dict[str, float]) -> str:
    """A line of the table."""
    memory = "".join(f" {took[kind]:.0f} |" if kind in took else " |" for kind in KINDS)
    times = " | ".join(f"{took[kind]:.0f}" for kind in ("seconds", "cpu", "others"))
    return f"| {events:,} | {where} | {times} |{memory}"


if __name__ == "__main__":
    main()
