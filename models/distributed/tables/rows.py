"""Which process holds which row of a table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class RowShards:
    """Rows dealt out in turn: row `r` from 1 on is with process `(r - 1) % count`.

    Ids often follow popularity, so that ranges would leave one process with most of the look-ups. Row 0,
    padding, is nobody's: in its place each process has a row of zeros, which also stands for all rows that
    others hold.

    >>> [RowShards(6, rank, 2).own for rank in (0, 1)]  # rows 1, 3, 5 and rows 2, 4
    [4, 3]
    """

    num_rows: int
    """Of the whole table, padding included."""
    rank: int
    count: int

    @property
    def own(self) -> int:
        """Rows that this process holds, the row of zeros included."""
        return 1 + len(range(1 + self.rank, self.num_rows, self.count))

    def local(self, rows: Tensor) -> Tensor:
        """Local indices (among this process's rows) of rows of the whole table, same shape; 0: not here."""
        dealt = rows - 1
        # Of padding, dealt is -1, and so is the quotient rounded down.
        place = 1 + dealt.div(self.count, rounding_mode="floor")
        return place.where(dealt % self.count == self.rank, 0)

    def ids(self, device: torch.device) -> Tensor:
        """[own] row numbers in the whole table of this process's rows: 0, then ascending."""
        return F.pad(self.held(1, device), (1, 0))

    def held(self, first: int, device: torch.device) -> Tensor:
        """[n] rows of the whole table, from `first` on, that this process holds, in order."""
        begin = 1 + self.rank + self._held_before(first) * self.count
        return torch.arange(begin, max(begin, self.num_rows), self.count, device=device)

    def count_held(self, first: int) -> int:
        """How many rows of the whole table, from `first` on, this process holds."""
        return self.own - 1 - self._held_before(first)

    def place(self, rows: Tensor, first: int) -> Tensor:
        """Places of rows of the whole table, all from `first` on, in `held(first)`; -1: not here."""
        local = self.local(rows)
        return (local - 1 - self._held_before(first)).where(local > 0, -1)

    def _held_before(self, first: int) -> int:
        return len(range(1 + self.rank, first, self.count))

    def take(self, whole: Tensor) -> Tensor:
        """[own, ...] this process's rows of a whole table [num_rows, ...]."""
        return torch.cat([torch.zeros_like(whole[:1]), whole[1 + self.rank :: self.count]])

    def within(self, first: int, stop: int) -> slice:
        """Own rows that rows `first` to `stop` of the whole table are among, as many in each process.

        The last of them may not be there where rows do not divide evenly.
        """
        return slice(1 + (first - 1) // self.count, 1 - (1 - stop) // self.count)

    def joined(self, parts: Tensor, first: int, stop: int) -> Tensor:
        """[stop - first, ...] rows of the whole table, of the rows `within` of all processes.

        Args:
            parts: [count, n, ...], by rank.
            first: row of the whole table.
            stop: end, in rows of the whole table.
        """
        begin = (self.within(first, stop).start - 1) * self.count + 1
        return parts.transpose(0, 1).flatten(0, 1)[first - begin : stop - begin]
