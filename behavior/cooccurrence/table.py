"""Tables of co-occurrence: a row an item, its followers and what they count."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse


@dataclass(frozen=True)
class CooccurrenceTable:
    """A sparse matrix of items by items, in compressed rows.

    Attributes:
        offsets: [items + 1] int64 where the followers of each item begin.
        follower: [pairs] int32 numbers of items, ascending within a row.
        count: [pairs] float32, above 0: what each counts.
    """

    offsets: npt.NDArray[np.int64]
    follower: npt.NDArray[np.int32]
    count: npt.NDArray[np.float32]

    @property
    def items(self) -> int:
        return len(self.offsets) - 1

    @property
    def pairs(self) -> int:
        """Pairs of an item and a follower."""
        return len(self.follower)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays: 8 bytes a pair and 8 an item."""
        return self.offsets.nbytes + self.follower.nbytes + self.count.nbytes

    @cached_property
    def matrix(self) -> Any:
        """[items, items] the same as SciPy's `csr_array`, without a copy."""
        return sparse.csr_array((self.count, self.follower, self.offsets), shape=(self.items, self.items))

    @cached_property
    def source(self) -> npt.NDArray[np.int32]:
        """[pairs] the item of each pair's row."""
        return np.repeat(np.arange(self.items, dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True)
class CrossFitted:
    """Tables of which a user takes the one that none of their own events are in (cross-fitting).

    Attributes:
        without: a table a fold: of all users but those of the fold (`behavior.cooccurrence.fold_of`).
        everybody: the table of all users.
    """

    without: tuple[CooccurrenceTable, ...]
    everybody: CooccurrenceTable

    @property
    def nbytes(self) -> int:
        return sum(table.nbytes for table in (*self.without, self.everybody))
