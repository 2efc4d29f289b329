"""Processes that train together, played by threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.distributed.processes import Processes, ReduceOp

T = TypeVar("T")


@dataclass
class Meeting:
    """Where threads put down what they have for each other."""

    count: int
    said: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.count, timeout=60)

    def all_of(self, rank: int, value: Any) -> list[Any]:
        """What all threads say, by rank."""
        self.said[rank] = value
        self.barrier.wait()
        values = [self.said[other] for other in range(self.count)]
        self.barrier.wait()
        return values


class ThreadProcesses(Processes):
    """One of several threads."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.count = meeting, rank, meeting.count

    def all_gather_object(self, value: T) -> list[T]:
        return self.meeting.all_of(self.rank, value)

    def broadcast_object(self, value: T) -> T:
        first: T = self.meeting.all_of(self.rank, value)[0]
        return first

    def all_gather(self, tensor: Tensor) -> Tensor:
        return self._stacked(tensor)

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        return self._stacked(tensor).sum(0)[self.rank]

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        stacked = self._stacked(tensor)
        return stacked.sum(0) if op == "sum" else stacked.amax(0)

    def _stacked(self, tensor: Tensor) -> Tensor:
        values = self.meeting.all_of(self.rank, tensor.detach().clone())
        assert len({(value.shape, value.dtype) for value in values}) == 1
        return torch.stack(values)


def one_of(count: int, rank: int = 0) -> Processes:
    """A rank among others that are not there: for code that talks to nobody."""
    return ThreadProcesses(Meeting(count), rank)


def together(count: int, work: Callable[[Processes], T]) -> list[T]:
    """Have so many threads do the same work, each as one of so many processes; results by rank."""
    meeting = Meeting(count)

    def as_process(rank: int) -> T:
        try:
            return work(ThreadProcesses(meeting, rank))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        done = [threads.submit(as_process, rank) for rank in range(count)]
    # What one met, rather than that others waited for it in vain.
    for failure in [future.exception() for future in done]:
        if failure is not None and not isinstance(failure, BrokenBarrierError):
            raise failure
    return [future.result() for future in done]
