"""Beam's log and stack traces, kept off the terminal."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
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
    try:
        yield
    finally:
        root.handlers = before
        beam.setLevel(level)


def import_beam_quietly() -> None:
    """Whenever Beam is imported first in this process, do so by `quiet_beam`; most local runs do without."""
    if "apache_beam" not in sys.modules:
        sys.meta_path.insert(0, _QuietBeam())


class _QuietBeam:
    """Finds Beam as usual; its loader is quiet."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "apache_beam":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            usual = loader.exec_module

            def quietly(module: ModuleType) -> None:
                with quiet_beam():
                    usual(module)

            loader.exec_module = quietly
        return spec


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


_TALK_TO_WORKERS = ("read_grpc_client_inputs", "beam_control_read", "read_state", "run_worker", "wait_until")
"""How the names of such threads begin; those of workers that are threads end with the worker's."""
_SECONDS_TO_END = 5.0


@contextmanager
def dead_workers_passed_over() -> Iterator[None]:
    """For one job, print no stack trace of a thread that talks to a worker process which died.

    The launcher says so. Such threads end soon after the job, which is waited for: until then the hook stays.
    """
    usual = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is None or not failure.thread.name.startswith(_TALK_TO_WORKERS):
            usual(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        deadline = time.monotonic() + _SECONDS_TO_END
        for thread in threading.enumerate():
            if thread.name.startswith(_TALK_TO_WORKERS):
                thread.join(max(0.0, deadline - time.monotonic()))
        if threading.excepthook is hook:
            threading.excepthook = usual
