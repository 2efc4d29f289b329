"""`lrm prepare` on 1 to 16 cores: seconds, memory, and what each stage takes on the clock and of the CPU.

    python benchmarks/prepare_cores.py --json cores.json                    20 million events: some minutes
    python benchmarks/prepare_cores.py --sets 20000000:1,2,4,8,16 100000000:4,8,16 --ways processes,threads
    python benchmarks/prepare_cores.py --probes                             what the machine itself gives

A generated log in Parquet, made once by all cores. Each run is a process of its own that may use some cores
only (its affinity) and is measured as a user starts it, with the input in the page cache; one run before has
Numba compile. `processes` and `threads` are how the work is done; `default` is what `lrm prepare`
chooses. Where polars is installed, the fastest program that we could write with it does the same work on as
many cores.

All runs of a size must write the same bytes, or it ends with an error.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from prepare_peers import events, measure

WAYS = ("processes", "threads", "default")
STAGES = ("plan", "start", "read", "sort", "count", "vocabulary", "write", "tables", "summary", "commit")
ALONE = ("plan", "start", "vocabulary", "summary", "commit")
"""Stages that one core does."""
FILES = 16
WARM_EVENTS = 200_000
POLARS = "polars"
_SECONDS_BETWEEN_SAMPLES = 0.2
_PROBE_BYTES = 64 << 20


@dataclass
class Run:
    """One run of a program.

    Attributes:
        way: of `WAYS`, or polars.
        seconds: of the whole process.
        user, system: CPU seconds of all its processes.
        peak: bytes; the sum of the PSS of all processes, or of their RSS where the system does not tell it.
        stages: seconds that each stage adds.
        cpu: of each stage, `user` and `system` seconds of all parts.
    """

    events: int
    cores: int
    way: str
    seconds: float
    user: float
    system: float
    peak: int
    stages: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def rest(self) -> float:
        """Imports, exit, and Beam's passage from stage to stage."""
        return self.seconds - sum(self.stages.values())


def make_log(folder: Path, size: int) -> Path:
    """Write a log by all cores, unless it is there; the path of its spec."""
    spec = folder / "spec.yaml"
    if not spec.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(min(FILES, len(os.sched_getaffinity(0)))) as pool:
            list(pool.map(partial(events.write_part, folder, size, FILES), range(FILES)))
        spec.write_text(events.SPEC.format(kind="parquet"), encoding="utf-8")
    events.warm(folder)
    return spec


def measured(command: list[str], cores: int, environment: dict[str, str]) -> tuple[Run, str]:
    """Run a command on some cores of those that this process may use; what it took and printed."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    measure.adopt_orphans()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=os.environ | environment,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )
        peak = [0]
        done = threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, peak, done))
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        sampler.join()
        user, system = measure.reap()  # workers whose end nobody waited for
        for stream in (out, err):
            stream.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{err.read()[-5000:]}")
        return Run(0, cores, "", seconds, user + usage.ru_utime, system + usage.ru_stime, peak[0]), out.read()


def _sample(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(_SECONDS_BETWEEN_SAMPLES):
        with suppress(OSError, ValueError):
            peak[0] = max(peak[0], sum(_resident(one) for one in measure.process_tree(pid)))


def _resident(pid: int) -> int:
    """PSS of a process, or its RSS where the system does not tell the first; 0 for one that has gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def prepare(spec: Path, out: Path, size: int, cores: int, way: str) -> Run:
    """One run of `lrm prepare`."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cli.main", "prepare", str(spec), "--out", str(out), "--json"]
    environment = {"LRM_THREADS": str(cores)}
    if way == "processes":
        command += ["--workers", str(cores)]
    elif way == "threads":
        environment["LRM_FORK_FROM_CORES"] = "1000000"
    run, printed = measured(command, cores, environment)
    told = json.loads(printed)
    run.events, run.way, run.stages, run.cpu = size, way, told["seconds"], told["cpu_seconds"]
    return run


def peer(spec: Path, out: Path, size: int, cores: int) -> Run:
    """One run of the polars program."""
    shutil.rmtree(out, ignore_errors=True)
    program = Path(__file__).parent / "prepare_peers" / "polars_program.py"
    parts = max(1, round(sum(path.stat().st_size for path in spec.parent.glob("*.parquet")) / (8 << 20)))
    command = [sys.executable, str(program), str(spec.parent), str(out), str(parts)]
    run, _ = measured(command, cores, {"POLARS_MAX_THREADS": str(cores)})
    run.events, run.way = size, POLARS
    return run


def report(run: Run) -> None:
    """A line of what a run took, and of its stages: on the clock, and of the CPU."""
    megabytes = run.peak / 1e6
    print(
        f"{run.events:>11,} events {run.cores:>2} cores {run.way:<9} {run.seconds:6.1f} s  CPU "
        f"{run.user:.1f} + {run.system:.1f} s  {megabytes:,.0f} MB, {megabytes / run.cores:,.0f} a core"
    )
    if run.stages:
        told = [f"{name} {run.stages[name]:.2f}" for name in STAGES if name in run.stages]
        print(f"    clock: {', '.join(told)}, rest {run.rest:.2f}")
        spent = [f"{n} {run.cpu[n]['user']:.2f}+{run.cpu[n]['system']:.2f}" for n in STAGES if n in run.cpu]
        print(f"    CPU:   {', '.join(spent)}")
        alone = run.rest + sum(run.stages.get(name, 0.0) for name in ALONE)
        shared = sum(sum(run.cpu[name].values()) for name in run.cpu if name not in ALONE)
        print(f"    one core at work {alone:.1f} s; all of them, if none waited, {shared / run.cores:.1f} s")
    sys.stdout.flush()


def digest(out: Path) -> str:
    """What must be alike in all runs: names, sizes and checksums of all files."""
    return json.dumps(json.loads((out / "manifest.json").read_text())["files"], sort_keys=True)


def probes(folder: Path, counts: list[int]) -> list[dict[str, Any]]:
    """What bounds such work, in bytes a second: memory and files, by threads and by processes."""
    kinds: dict[str, Callable[[Path, int], None]] = {
        "fresh memory": _touch_fresh,
        "memory used before": _touch_again,
        "write a file": _write_file,
        "read a file": _read_file,
        "map a file": _map_file,
    }
    found = []
    for kind, work in kinds.items():
        for count in counts:
            for way, pool_of in (("threads", ThreadPoolExecutor), ("processes", ProcessPoolExecutor)):
                with pool_of(count) as pool:
                    list(pool.map(_nothing, range(4 * count)))  # all are there
                    begin = time.perf_counter()
                    list(pool.map(partial(work, folder), range(count)))
                    rate = count * _PROBE_BYTES / (time.perf_counter() - begin)
                found.append({"probe": kind, "way": way, "at_once": count, "bytes_per_second": rate})
                print(f"{kind:<20} {count:>2} {way:<9} {rate / 1e9:7.2f} GB/s", flush=True)
    for path in folder.glob("probe-*"):
        path.unlink()
    return found


def _nothing(_: int) -> None:
    time.sleep(0.01)


def _touch_fresh(folder: Path, number: int) -> None:
    for _ in range(_PROBE_BYTES >> 25):
        np.empty(1 << 25, np.uint8).fill(1)  # 32 MB: the system gives and takes it page by page


def _touch_again(folder: Path, number: int) -> None:
    array = np.ones(1 << 20, np.uint8)
    for _ in range(_PROBE_BYTES >> 20):
        array.fill(2)


def _write_file(folder: Path, number: int) -> None:
    block = bytes(1 << 20)
    with (folder / f"probe-{number}").open("wb") as file:
        for _ in range(_PROBE_BYTES >> 20):
            file.write(block)


def _read_file(folder: Path, number: int) -> None:
    array = np.empty(1 << 20, np.uint8)
    with (folder / f"probe-{number}").open("rb", buffering=0) as file:
        while file.readinto(array):
            pass


def _map_file(folder: Path, number: int) -> None:
    np.memmap(folder / f"probe-{number}", np.uint8, "r").max()


def _set(text: str) -> tuple[int, list[int]]:
    size, _, cores = text.partition(":")
    return int(size.replace("_", "")), [int(number) for number in cores.split(",")]


def main() -> None:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    sets = [(20_000_000, [1, 2, 4, 8, 16])]
    parser.add_argument("--sets", type=_set, nargs="*", default=sets, metavar="EVENTS:CORES,...")
    parser.add_argument("--ways", default="processes,threads", help=f"of: {','.join(WAYS)}")
    parser.add_argument("--probes", action="store_true", help="measure memory and files first")
    parser.add_argument("--no-polars", action="store_true", help="leave polars out")
    parser.add_argument("--folder", type=Path, help="keep logs and results here; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    facts = measure.machine() | {"cores": cores}
    print("; ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    record: dict[str, Any] = {"machine": facts, "probes": [], "runs": []}

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps(record, indent=1))

    with tempfile.TemporaryDirectory(prefix="lrm-bench-") as temporary:
        folder: Path = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.probes:
            record["probes"] = probes(folder, sorted({1, cores}))
            keep()
        warm = prepare(
            make_log(folder / "warm", WARM_EVENTS), folder / "out", WARM_EVENTS, cores, "processes"
        )
        print(f"first run, {WARM_EVENTS:,} events: {warm.seconds:.1f} s")
        record["first_run"] = asdict(warm)
        for size, wanted in options.sets:
            begin = time.perf_counter()
            spec = make_log(folder / f"events-{size}", size)
            print(f"{size:,} events made in {time.perf_counter() - begin:.1f} s", flush=True)
            digests = set()
            for count in [number for number in wanted if number <= cores]:
                for way in options.ways.split(","):
                    run = prepare(spec, folder / "out", size, count, way)
                    digests.add(digest(folder / "out"))
                    report(run)
                    record["runs"].append(asdict(run) | {"rest": run.rest})
                    keep()
                if find_spec(POLARS) and not options.no_polars:
                    report(run := peer(spec, folder / "out", size, count))
                    record["runs"].append(asdict(run))
                    keep()
            if len(digests) > 1:
                sys.exit("lrm prepare wrote different bytes")
            shutil.rmtree(spec.parent)
        keep()


if __name__ == "__main__":
    main()
