"""Several processes that share a piece of work which no device needs to know of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Peers(Protocol):
    """This process among those that work together; all make the same calls in the same order."""

    @property
    def rank(self) -> int:
        """Of this process, from 0."""

    @property
    def count(self) -> int:
        """Of all processes."""

    def gather(self, value: T) -> list[T]:
        """[count] the values of all processes, by rank."""


@dataclass(frozen=True)
class _Alone:
    rank: int = 0
    count: int = 1

    def gather(self, value: T) -> list[T]:
        return [value]


ALONE: Peers = _Alone()
"""A process without others."""


def share_of(size: int, rank: int, count: int) -> slice:
    """The part of `size` things in a row that is a process's; parts differ by one thing at most.

    >>> [share_of(7, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
    """
    return slice(size * rank // count, size * (rank + 1) // count)
