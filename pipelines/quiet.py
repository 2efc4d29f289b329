"""Beam's log and stack traces, kept off the terminal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def quiet_beam() -> Iterator[None]:
    """Keep Beam's log off the terminal while it is imported or while a job runs.

    Importing Beam, and its first warning, add a handler to the root logger; one of ours that does nothing
    keeps them from it. The user's error is kept in a file by the worker and shown by the launcher.
    """
    root, beam = logging.getLogger(), logging.getLogger("apache_beam")
    before, level = list(root.handlers), beam.level
    root.handlers = [logging.NullHandler()]
    beam.setLevel(logging.CRITICAL)
    if not isinstance(threading.excepthook, _PassOver):  # for good: Beam's threads may outlive the job
        threading.excepthook = _PassOver(threading.excepthook)
    try:
        yield
    finally:
        root.handlers = before
        beam.setLevel(level)


@contextmanager
def traces_kept(log: Path) -> Iterator[None]:
    """Send the stack traces that workers in threads of this process print to a file, not to the terminal.

    Beam's worker prints them on standard error, where the user's own message is to stand alone. A name of its
    module is the only place to catch that without catching what everybody else prints.
    """
    from apache_beam.runners.worker import sdk_worker

    def keep(*parts: Any, **_: Any) -> None:
        with suppress(OSError), log.open("a", encoding="utf-8") as file:
            file.write(" ".join(map(str, parts)) + "\n")

    module: Any = sdk_worker
    module.print = keep
    try:
        yield
    finally:
        del module.print


class _PassOver:
    """Passes over the failure of a thread that talks to a worker process which died: the launcher says so."""

    THREADS = ("read_grpc_client_inputs", "beam_control_read", "run_worker")

    def __init__(self, usual: Callable[[threading.ExceptHookArgs], object]) -> None:
        self.usual = usual

    def __call__(self, failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or failure.thread.name not in self.THREADS:
            self.usual(failure)
