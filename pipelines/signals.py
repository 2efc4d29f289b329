"""Signals that end this process end a job on an engine with it, whenever they come."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from pipelines.runner import RunnerOptions

_SECONDS_OF_ONE_INTERRUPT = 0.5


def interrupted_by_signals(runner: RunnerOptions) -> AbstractContextManager[None]:
    """Around all that is done for a job: where it runs on an engine, see `signals_interrupt`.

    A local run ends with its process.
    """
    return nullcontext() if runner.is_local else signals_interrupt()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt this process as Ctrl-C does; otherwise they would end it at once.

    What sends a signal to this process and to its group as well (`timeout` does) means one interrupt, not
    two: the second is for those who will not wait.
    """
    before: dict[int, Any] = {}
    last = [-math.inf]

    def interrupt(number: int, frame: Any) -> None:
        again = time.monotonic() - last[0] < _SECONDS_OF_ONE_INTERRUPT
        last[0] = time.monotonic()
        if not again:
            usual = before[number]
            (usual if callable(usual) else signal.default_int_handler)(number, frame)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            now = signal.getsignal(each)
            if now is signal.SIG_DFL or (each == signal.SIGINT and callable(now)):
                before[each] = signal.signal(each, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
