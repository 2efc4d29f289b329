"""Which of the known items a process holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.distributed.processes import SINGLE, Processes
from models.distributed.tables.rows import RowShards


@dataclass(frozen=True)
class HeldItems:
    """Which of the known items this process holds: those whose rows of the item table it has.

    Items are numbered by rank here, id minus the first known one.
    """

    processes: Processes
    shards: RowShards
    """Of the table of all item ids."""
    first_item: int
    """The smallest id of a known item."""

    def known(self, rows: Tensor) -> Tensor:
        """[count, ...] of the known items held here, of [rows of this process, ...]."""
        return rows[self.shards.own - self.count :]

    @classmethod
    def whole(cls, num_items: int) -> HeldItems:
        """All of them, in every process."""
        return cls(SINGLE, RowShards(num_items + 1, 0, 1), 1)

    @property
    def is_divided(self) -> bool:
        """Whether other processes hold items that this one does not."""
        return self.processes.count > 1

    @property
    def num_items(self) -> int:
        """Known items, wherever they are."""
        return self.shards.num_rows - self.first_item

    @property
    def count(self) -> int:
        """Known items that this process holds."""
        return self.shards.count_held(self.first_item)

    @property
    def most(self) -> int:
        """Known items that a process holds at most; each holds as many, or one less."""
        return -(-self.num_items // self.shards.count)

    def filled(self, vectors: Tensor) -> Tensor:
        """[most, dim] vectors of the items held here, [count, dim], with zeros after them."""
        missing = self.most - self.count
        return F.pad(vectors, (0, 0, 0, missing)) if missing else vectors

    def place(self, ranks: Tensor) -> Tensor:
        """Indices of item ranks among the known items held here; -1: elsewhere."""
        return self.shards.place(ranks + self.first_item, self.first_item)
