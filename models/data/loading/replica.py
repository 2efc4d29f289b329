"""Which of several training processes this one is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Replica:
    """One of `count` processes that train the same model on different sequences.

    Attributes:
        rank: from 0.
        count: of all processes.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank {self.rank} is not one of {self.count} replicas")
