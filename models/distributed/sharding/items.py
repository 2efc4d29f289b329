"""Which of the known items a process holds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.distributed.processes import Processes
from models.distributed.sharding.rows import RowShards


@dataclass(frozen=True)
class HeldItems:
    """Which of the known items this process holds."""

    processes: Processes
    shards: RowShards
    """Of the table of all item ids."""
    first_item: int
    """The smallest id of a known item."""

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
        return F.pad(vectors, (0, 0, 0, self.most - self.count))

    def place(self, ranks: Tensor) -> Tensor:
        """Places of item ranks (ids minus the first known one) among known items held here; -1: elsewhere."""
        return self.shards.place(ranks + self.first_item, self.first_item)
