"""Processes that train together, played by threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import torch
from torch import Tensor

from models.distributed.sharding import Exchange

T = TypeVar("T")


@dataclass
class Meeting:
    """Where threads put down what they have for each other."""

    count: int
    said: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.count, timeout=10)

    def all_of(self, rank: int, value: Any) -> list[Any]:
        """What all threads say, by rank."""
        self.said[rank] = value
        self.barrier.wait()
        values = [self.said[other] for other in range(self.count)]
        self.barrier.wait()
        return values


@dataclass(frozen=True)
class ThreadExchange:
    """A `models.distributed.sharding.Exchange` between threads."""

    meeting: Meeting
    rank: int

    @property
    def count(self) -> int:
        return self.meeting.count

    def longest(self, length: int) -> int:
        return max(self.meeting.all_of(self.rank, length))

    def collect(self, value: T) -> list[T]:
        return self.meeting.all_of(self.rank, value)

    def gather(self, own: Tensor) -> Tensor:
        return self._stacked(own)

    def sum_to_each(self, parts: Tensor) -> Tensor:
        return self._stacked(parts).sum(0)[self.rank]

    def total(self, own: Tensor) -> Tensor:
        return self._stacked(own).sum(0)

    def largest(self, own: Tensor) -> Tensor:
        return self._stacked(own).amax(0)

    def _stacked(self, own: Tensor) -> Tensor:
        values = self.meeting.all_of(self.rank, own.detach().clone())
        assert len({value.shape for value in values}) == 1
        return torch.stack(values)


@dataclass(frozen=True)
class ThreadPeers:
    """`models.distributed.peers.Peers`, who meet where threads exchange tensors."""

    exchange: Exchange

    @property
    def rank(self) -> int:
        return self.exchange.rank

    @property
    def count(self) -> int:
        return self.exchange.count

    def gather(self, value: T) -> list[T]:
        return self.exchange.collect(value)


def together(count: int, work: Callable[[Exchange], T]) -> list[T]:
    """Have so many threads do the same work, each with an exchange to the others; results by rank."""
    meeting = Meeting(count)

    def as_process(rank: int) -> T:
        try:
            return work(ThreadExchange(meeting, rank))
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
