"""How often items occur, and what that says of each event."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

TOP = 0.01
"""The share of items that are called the top."""


@dataclass(frozen=True)
class Popularity:
    """Events of each item.

    Each measure of the items' distribution is a mean over events of a score of the event's item. With the
    scores held fixed, a bootstrap of that mean is the delta method's: entropy and Gini coefficient have no
    other first derivative by the counts.

    Attributes:
        counts: [items] int64
    """

    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, item: npt.NDArray, items: int) -> Popularity:
        """Count items.

        Args:
            item: [events] numbers from 0.
            items: how many there are.
        """
        return cls(np.bincount(item, minlength=items).astype(np.int64))

    @property
    def items(self) -> int:
        """Items that occur."""
        return int((self.counts > 0).sum())

    @cached_property
    def surprisal(self) -> npt.NDArray[np.float64]:
        """[items] float64 `- ln p`, 0 for items that do not occur; its mean is the Shannon entropy."""
        there = self.counts > 0
        result = np.zeros(len(self.counts))
        result[there] = np.log(self.counts.sum()) - np.log(self.counts[there])
        return result

    @cached_property
    def rank(self) -> npt.NDArray[np.float64]:
        """[items] float64 `(2 r - items - 1) / items`, whose mean is the Gini coefficient.

        The rank r counts from the rarest of the items that occur, as `items` counts them; equal counts have
        their mean rank. Items that do not occur have 0.
        """
        there = self.counts > 0
        _, inverse, number = np.unique(self.counts[there], return_inverse=True, return_counts=True)
        last = np.cumsum(number)
        mean_rank = last - (number - 1) / 2
        result = np.zeros(len(self.counts))
        result[there] = (2 * mean_rank[inverse] - self.items - 1) / max(self.items, 1)
        return result

    @cached_property
    def top(self) -> npt.NDArray[np.float64]:
        """[items] float64 1 for the most frequent hundredth of the items that occur, 0 for the others.

        It is one item at least, and may be a fraction of the last.
        Where the last of them has as many events as others, they share what is left.
        """
        wanted = max(1.0, TOP * self.items)
        result = np.zeros(len(self.counts))
        if self.items:
            ordered = np.sort(self.counts)[::-1]
            edge = ordered[int(np.ceil(wanted)) - 1]
            above, tied = self.counts > edge, self.counts == edge
            result[above] = 1.0
            result[tied] = (wanted - above.sum()) / tied.sum()
        return result
