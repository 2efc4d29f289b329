"""Which events of a history a cache has, and which are computed when it grows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.serving.cache.ragged import Ints


@dataclass(frozen=True)
class Window:
    """The newest events of a history.

    Raises:
        ValueError: sizes that make no sense.
    """

    size: int
    """Most events."""
    slide: int
    """Events by which a full window moves, at least."""
    positions: int
    """That the model has: N."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.positions:
            raise ValueError(f"a window has 1 to {self.positions} events, not {self.size}")
        if not 1 <= self.slide <= self.size:
            raise ValueError(f"a window of {self.size} events moves by 1 to {self.size}, not {self.slide}")

    def begin(self, events: Ints) -> Ints:
        """The oldest event in the window of a history of so many events.

        It follows from their number alone, however they came:

        >>> Window(4, 2, 4).begin(np.arange(4, 10)).tolist()
        [0, 2, 2, 4, 4, 6]
        """
        return -(-np.maximum(events - self.size, 0) // self.slide) * self.slide


@dataclass(frozen=True)
class Growth:
    """What one call computes of the window of each user, [users] each."""

    base: Ints
    """Events at its beginning whose keys and values stay."""
    first: Ints
    """Place in the former window of the first remembered event that is computed (again)."""
    remembered: Ints
    """Events of the former window that are computed (again)."""
    given: Ints
    """New events that are computed: the last ones, where not all are in the window."""

    @property
    def fresh(self) -> Ints:
        """Events that are computed."""
        return self.remembered + self.given

    @property
    def length(self) -> Ints:
        """Events of the window."""
        return self.base + self.fresh

    @classmethod
    def of(cls, window: Window, told: Ints, length: Ints, more: Ints) -> Growth:
        """When events are appended.

        Args:
            window: of all histories.
            told: events of each history so far.
            length: of them in the window.
            more: events that come now.
        """
        former = told - length
        begin = np.maximum(window.begin(told + more), former)
        # The newest event so far was computed before it was known what comes next.
        base = np.where(begin > former, 0, np.maximum(length - 1, 0))
        first = begin + base
        remembered = np.maximum(told - first, 0)
        return cls(base, first - former, remembered, told + more - first - remembered)
