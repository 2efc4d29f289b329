"""Worker processes of a local run: they end with an interrupt, whoever it reaches."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class WorkerProcesses:
    """The worker processes that Beam starts during one job.

    Attributes:
        interrupted: whether the job was interrupted; processes that are started later end at once.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen] = []
        self._lock = threading.RLock()  # a signal may come while it is held
        self.interrupted = False

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen:
        """`subprocess.Popen`, remembered."""
        with self._lock:
            process = subprocess.Popen(*arguments, **options)
            self._started.append(process)
            if self.interrupted:
                process.kill()
        return process

    def end(self) -> None:
        """End all, whatever they are at: what they have written is of a job that is not finished."""
        with self._lock:
            self.interrupted = True
            for process in self._started:
                process.kill()


@contextmanager
def ended_by_an_interrupt() -> Iterator[WorkerProcesses]:
    """For one job, let Ctrl-C (SIGINT) end its worker processes, also where it reaches this process alone.

    A terminal sends it to all; supervisors and `timeout -s INT` do not. Beam would then wait for its workers,
    which go on with what they are at. Its module's name is the only place to learn of the processes.
    """
    from apache_beam.runners.portability import local_job_service

    workers, module = WorkerProcesses(), local_job_service
    usual = module.subprocess
    before = signal.getsignal(signal.SIGINT)
    catches = threading.current_thread() is threading.main_thread() and callable(before)

    def interrupt(number: int, frame: Any) -> None:
        workers.end()
        if callable(before):
            before(number, frame)

    module.subprocess = _Watched(usual, workers)
    if catches:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield workers
    finally:
        if catches:
            signal.signal(signal.SIGINT, before)
        module.subprocess = usual


class _Watched:
    """The module `subprocess`, whose processes are remembered."""

    def __init__(self, usual: Any, workers: WorkerProcesses) -> None:
        self._usual = usual
        self.Popen = workers.start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)
