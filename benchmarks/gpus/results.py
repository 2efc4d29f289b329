"""Where numbers of two GPUs are written down, and how processes end that gave none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Process = subprocess.Popen[bytes]
UNTOLD = "importlib._bootstrap", "/typer/", "runpy", "Extension modules", "threading.py", "torch/nn/modules"
"""What is left out of what processes printed."""


class Results:
    """Printed, and written down at once.

    Args:
        limit: seconds for everything.
    """

    def __init__(self, limit: float) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.since, self.limit = time.perf_counter(), limit

    @property
    def left(self) -> float:
        """Seconds."""
        return self.limit - (time.perf_counter() - self.since)

    def add(self, part: str, row: Row) -> None:
        """Note one line of a part."""
        self.rows.setdefault(part, []).append(row)
        print(f"{time.perf_counter() - self.since:6.1f} s  {part}: {row}", flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "two_gpus.json").write_text(json.dumps(self.rows, indent=1))


def begin(words: Sequence[object], log: Path, environment: dict[str, str] | None = None) -> Process:
    """Start a process, in a group of its own, whose output goes to a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(word) for word in words],
            env=os.environ | (environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


def ended(process: Process, most: float) -> int | None:
    """The exit code of a process that ends within so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(most)
    return None


def end(process: Process) -> None:
    """End a process and those it has started; where it runs, it tells where it stands."""
    if process.poll() is None:
        process.send_signal(signal.SIGABRT)
        ended(process, 2)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(log: Path) -> None:
    """Print how the output of a process ends."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line[:300] for line in lines if not any(word in line for word in UNTOLD)]
    print("\n".join([f"-- {log.name} ends with:", *told[-40:]]), flush=True)
