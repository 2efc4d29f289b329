"""Jobs in processes of their own, several at once, spread over the GPUs of this machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.queues import SimpleQueue
from typing import TypeVar

import torch

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


def as_done(
    work: Callable[[JobT], ResultT], jobs: Iterable[JobT], places: Sequence[str | None]
) -> Iterator[Future[ResultT]]:
    """Do jobs in as many processes as there are places; gives each as soon as it is done, or has failed.

    A process takes one job after the other. No job is taken before one of them is free: what a pool has
    queued could not be taken back. So `jobs` may end early, when time is up or one has failed.

    Args:
        work: called with a job, in another process.
        jobs: in the order in which they begin.
        places: the GPU that each process sees, as `gpus_of` gives them.
    """
    context, left = _context(), iter(jobs)
    queue = context.SimpleQueue()
    for place in places:
        queue.put(place)
    with ProcessPoolExecutor(len(places), context, initializer=_see_next_gpu, initargs=(queue,)) as pool:
        waiting = {pool.submit(work, job) for job in islice(left, len(places))}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from done
            waiting |= {pool.submit(work, job) for job in islice(left, len(done))}


def _context() -> SpawnContext | ForkServerContext:
    """Begins processes: afresh, since a GPU may be in use here."""
    return multiprocessing.get_context("spawn")


def gpus_of(jobs: int) -> list[str | None]:
    """For each job the GPU it is to see, as CUDA_VISIBLE_DEVICES names it; none where there is no choice."""
    count = torch.cuda.device_count()
    if count < 2:
        return [None] * jobs
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = names if len(names) == count else [str(number) for number in range(count)]
    return [names[job % count] for job in range(jobs)]


def see_gpu(place: str | None) -> None:
    """Have this process see one GPU, before it first asks for one; None: whatever there is."""
    if place is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = place


def _see_next_gpu(places: SimpleQueue[str | None]) -> None:
    see_gpu(places.get())
