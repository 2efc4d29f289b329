"""Who does the parts of a local run: this thread, threads of this process, or processes that are forked.

A part is a call that the first worker who is free takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol


class Workers(Protocol):
    """Call functions as `function(job, *arguments)`, several at a time."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Have a function called by the next worker that is free."""

    def close(self) -> None:
        """End the workers, which are done."""

    def kill(self) -> None:
        """End them at once, as far as that can be done."""


class Alone:
    """No workers: a part is done, or raises its error, when it is given out."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future: Future = Future()
        future.set_result(function(self._job, *arguments))
        return future

    def close(self) -> None:
        pass

    def kill(self) -> None:
        pass


class Threads:
    """Workers that are threads of this process."""

    def __init__(self, number: int, job: Any) -> None:
        self._job = job
        self._pool = ThreadPoolExecutor(number, "lrm-worker")

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._pool.submit(function, self._job, *arguments)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def kill(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def working(workers: Workers) -> Iterator[Workers]:
    """Workers for as long as a job runs; an error ends what they are at."""
    try:
        yield workers
    except BaseException:
        workers.kill()
        raise
    finally:
        workers.close()
