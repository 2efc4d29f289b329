"""How far a local run is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.clock import StageClock
from pipelines.job import Job

Progress = Callable[[str, int, int], None]
"""Called with a stage (`read`, `sort`, `write`), how many of its parts are done, and how many there are."""


@contextmanager
def watched(job: Job, totals: dict[str, int], progress: Progress | None) -> Iterator[None]:
    """Report the progress of a local run; a remote one has the engine's own pages for that."""
    if progress is None or not job.timed:
        yield
        return
    clock, done = StageClock(job.notes), threading.Event()

    def report() -> None:
        parts = clock.parts()
        for stage, total in totals.items():
            progress(stage, len(parts.get(stage, ())), total)

    def watch() -> None:
        while not done.wait(0.3):
            report()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        report()
    finally:
        done.set()
        thread.join()
