"""The times of a local run's stages."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from behavior.shards.storage import Folder

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


class Part(NamedTuple):
    """One part of a stage, on one worker.

    Attributes:
        begin, end: seconds since the epoch.
        user, system: CPU seconds of the thread that did it, its own and the system's for it.
    """

    begin: float
    end: float
    user: float
    system: float


class StageClock:
    """When the parts of each stage ran, on all workers of a local run: for progress and for timings.

    Each process appends lines to a file of its own. A remote run has the engine's own pages for that.
    """

    _FOLDER = "clock"

    def __init__(self, notes: Folder | None) -> None:
        self.folder = None if notes is None else notes.path / self._FOLDER

    @contextmanager
    def part(self, stage: str) -> Iterator[None]:
        """Around one part of a stage, on one thread; one that fails does not count."""
        begin, before = time.time(), _cpu_seconds()
        yield
        if self.folder is None:
            return
        user, system = (now - then for now, then in zip(_cpu_seconds(), before, strict=True))
        # Time is not worth failing for.
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{os.getpid()}.txt").open("a", encoding="utf-8") as file:
                file.write(f"{stage} {begin:.6f} {time.time():.6f} {user:.6f} {system:.6f}\n")

    def parts(self) -> dict[str, list[Part]]:
        """Stage -> each part that is done."""
        found: dict[str, list[Part]] = {}
        for path in self.folder.glob("*.txt") if self.folder is not None else ():
            # A line that is being written lacks its end.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                stage, *numbers = line.split(" ")
                found.setdefault(stage, []).append(Part(*map(float, numbers)))
        return found


def _cpu_seconds() -> tuple[float, float]:
    """Of this thread, its own and the system's; together where they are not told apart."""
    if resource is None or not hasattr(resource, "RUSAGE_THREAD"):
        return time.thread_time(), 0.0
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime, used.ru_stime
