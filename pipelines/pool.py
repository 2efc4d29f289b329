"""Who does the work of a local run: threads of this process, or processes that are forked.

Beam has one worker then, in this process, which passes on results. The parts of a stage are calls that the
first one who is free takes, the largest first, so that none has more than its share; what is known to be
wanted later can be given out ahead, while Beam goes from stage to stage.
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
        """End the workers."""

    def kill(self) -> None:
        """End them at once, as far as that can be done."""


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


class Pool:
    """The workers of one job, and what was given out to them ahead."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._ahead: dict[Any, Future] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Give out a call."""
        return self._workers.submit(function, *arguments)

    def ahead(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        """Give out a call whose result a later stage will ask for."""
        self._ahead[key] = self.submit(function, *arguments)

    def taken(self, key: Any, function: Callable[..., Any], *arguments: Any) -> Future:
        """What was given out ahead under a key; or else the call, given out now."""
        future = self._ahead.pop(key, None)
        return self.submit(function, *arguments) if future is None else future


_pools: dict[str, Pool] = {}
"""By the folder of the job's notes: Beam hands transforms to its worker as bytes, and they find it here."""


def pool_of(job: Any) -> Pool | None:
    """The pool of a job; None on an engine, and where there is but one worker."""
    return _pools.get(job.notes.url)


@contextmanager
def working(job: Any, workers: Workers | None) -> Iterator[None]:
    """For as long as a job runs, its parts are given to workers; None: Beam's worker does them itself."""
    if workers is None:
        yield
        return
    _pools[job.notes.url] = Pool(workers)
    try:
        yield
    except BaseException:
        workers.kill()
        raise
    finally:
        del _pools[job.notes.url]
        workers.close()
