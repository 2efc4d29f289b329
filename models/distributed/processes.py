"""Which of several training processes this one is, and what they tell each other outside of the model."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from behavior.errors import UserError

T = TypeVar("T")

# Between hosts: the first process writes checkpoints while the others wait for it.
PATIENCE = timedelta(hours=24)
# Between GPUs nobody is waited for who has not just been heard of, host to host. A GPU does not notice that
# another process is gone: after this time NCCL ends the one that waits.
GPU_PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Processes:
    """This process among all that train one model together.

    What is said here goes from host to host, through gloo: no device is waited for. Every process has to
    make the same calls in the same order. With one process nothing is sent.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    """Processes on this machine."""
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and logs."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """[n] the sum over all processes of each value, the same on all of them to the last bit."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed, group=self.group)
        totals: list[float] = summed.tolist()
        return totals

    def from_first(self, value: T) -> T:
        """The first process's value; what the others pass does not matter."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; a host must have room for all of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def on_first(self, work: Callable[[], T]) -> T:
        """Have the first process do something and give all of them what comes of it.

        Raises:
            UserError: on every process, where the first one raised it.
        """
        done: tuple[T | None, UserError | None] = (None, None)
        if self.is_first:
            try:
                done = (work(), None)
            except UserError as error:
                if self.count == 1:
                    raise
                done = (None, error)
        result, failure = self.from_first(done)
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]

    def close(self) -> None:
        """Leave the others; none of them can be talked to any more."""
        if self.count > 1:
            # A module that averages its gradients and is still alive can keep the group from ending.
            gc.collect()
            dist.destroy_process_group()


def launched_by_torchrun() -> bool:
    """Whether `torchrun`, or what sets the same variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first_process() -> bool:
    """Whether this process is to tell the user what comes of it: the only one, or `torchrun`'s first."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def join_torchrun(backend: str) -> Processes:
    """Meet the processes that `torchrun` started."""
    dist.init_process_group(backend, init_method="env://", timeout=_patience(backend))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    local_count = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    return _here(local, local_count, backend)


def join_store(store: Store, rank: int, count: int, backend: str) -> Processes:
    """Meet `count` processes of this machine at a store."""
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_patience(backend))
    return _here(rank, count, backend)


def _patience(backend: str) -> timedelta:
    return GPU_PATIENCE if backend == "nccl" else PATIENCE


def _here(local_rank: int, local_count: int, backend: str) -> Processes:
    group = None if backend == "gloo" else dist.new_group(backend="gloo", timeout=PATIENCE)
    return Processes(dist.get_rank(), dist.get_world_size(), local_rank, local_count, group)
