"""Runs a command and measures it: seconds, CPU seconds, and the memory of all its processes."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SAMPLE_SECONDS = 0.05
LIBRARIES = ("pyarrow", "apache-beam", "numba", "numpy", "polars")
_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds: from its start to the end of its first process.
        cpu_seconds: user and system, of all its processes.
        peak: bytes of all processes together at the worst moment, as the sum of their PSS: what processes
            share is counted once, and pages of mapped files count. 0 where memory was not sampled.
        peak_anonymous: the same without pages of files, which the kernel may drop at any time.
        peak_process: the largest resident size (RSS) that any one process had.
        output: what it printed.
    """

    seconds: float
    cpu_seconds: float
    peak: int
    peak_anonymous: int
    peak_process: int
    output: str


def run(command: list[str], *, memory: bool = False) -> Usage:
    """Run a command to its end.

    Args:
        command: program and arguments.
        memory: sample its memory every 50 ms. Reading it costs time, so time is measured without.

    Raises:
        SystemExit: it failed; what it wrote to standard error is shown.
    """
    adopt_orphans()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        peak = peak_anonymous = peak_process = 0
        cpu_seconds = 0.0
        code: int | None = None
        while code is None:
            if memory:
                tree = process_tree(process.pid)
                sizes = [_proportional(pid) for pid in tree]
                peak = max(peak, sum(size for size, _ in sizes))
                peak_anonymous = max(peak_anonymous, sum(size for _, size in sizes))
                peak_process = max([peak_process, *(_high_water(pid) for pid in tree)])
                time.sleep(SAMPLE_SECONDS)
            pid, status, usage = os.wait4(-1, os.WNOHANG if memory else 0)
            if pid:
                cpu_seconds += usage.ru_utime + usage.ru_stime
            if pid == process.pid:
                code = process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - begin
        cpu_seconds += sum(reap())
        for stream in (out, err):
            stream.seek(0)
        if code:
            sys.exit(f"{' '.join(command)}\nended with {code}:\n{err.read()[-5000:]}")
        return Usage(seconds, cpu_seconds, peak, peak_anonymous, peak_process, out.read())


def adopt_orphans() -> None:
    """Become the parent of workers that outlive their parent, so that their CPU seconds are counted."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reap(patience: float = 5.0) -> tuple[float, float]:
    """Wait for what is left of processes, at last by force; their CPU seconds, user and system."""
    user = system = 0.0
    deadline = time.perf_counter() + patience
    with suppress(ChildProcessError):
        while True:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
            if pid:
                user, system = user + usage.ru_utime, system + usage.ru_stime
                continue
            if time.perf_counter() > deadline:
                for left in process_tree(os.getpid())[1:]:
                    with suppress(ProcessLookupError):
                        os.kill(left, signal.SIGKILL)
            time.sleep(0.01)
    return user, system


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything: the fields are counted from behind it.
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _proportional(pid: int) -> tuple[int, int]:
    """PSS of a process, and that of its anonymous pages; 0 for one that has gone."""
    with suppress(OSError):
        sizes = _kilobytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return sizes.get("Pss", 0), sizes.get("Pss_Anon", 0)
    return 0, 0


def _high_water(pid: int) -> int:
    """The largest RSS a process has had. (Not `ru_maxrss`, which starts at that of the parent.)"""
    with suppress(OSError):
        return _kilobytes(Path(f"/proc/{pid}/status").read_text()).get("VmHWM", 0)
    return 0


def _kilobytes(text: str) -> dict[str, int]:
    """Lines `Name:  123 kB` as bytes."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3 and row[2] == "kB"}


def machine() -> dict[str, str | int]:
    """Processor, cores, memory and versions."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = _kilobytes(Path("/proc/meminfo").read_text())["MemTotal"]
    facts: dict[str, str | int] = {"cpu": model, "cores": len(os.sched_getaffinity(0)), "memory": memory}
    return {**facts, "python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return "none"
