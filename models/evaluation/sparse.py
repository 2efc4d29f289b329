"""What few items score besides the product of vectors: mass beside their scores, as logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from models.data.sequences import Int64Array
from models.evaluation.transfer import to_device

_BITS = 63


@dataclass(frozen=True, eq=False)
class SparseMass:
    """Unnormalized probability of some items for some queries: `s_i <- log(exp s_i + exp mass)`.

    However many items there are, only these are touched. History logits are such mass (`models.history`).
    """

    rows: Int64Array
    """[pairs] queries."""
    items: Int64Array
    """[pairs] items, numbered from the first known one, never falling; a pair of both stands once."""
    mass: Tensor
    """[pairs] float32 logarithms, on the scores' device; minus infinity adds nothing."""

    @classmethod
    def summed(cls, rows: Int64Array, items: Int64Array, mass: Tensor) -> SparseMass:
        """Of pairs in any order, of which those of the same row and item are added up. Waits for nothing.

        Args:
            rows: [pairs].
            items: [pairs].
            mass: [pairs] float logarithms.
        """
        order = _by_item(rows, items)
        rows, items = rows[order], items[order]
        mass = mass.float()[to_device(order, mass.device)]
        first = np.ones(len(rows), bool)
        first[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
        if not first.all():
            mass = _log_sums(mass, first)
        return cls(rows[first], items[first], mass)

    @classmethod
    def joined(cls, masses: Sequence[SparseMass]) -> SparseMass:
        """Of several kinds of mass for the same queries, added up."""
        if len(masses) == 1:
            return masses[0]
        rows, items = (np.concatenate([getattr(one, name) for one in masses]) for name in ("rows", "items"))
        return cls.summed(rows, items, torch.cat([one.mass for one in masses]))

    def take(self, chosen: Int64Array, rows: Int64Array, items: Int64Array) -> SparseMass:
        """Some of the pairs under other numbers, in which items need not be in order."""
        order = np.argsort(items, kind="stable")
        return SparseMass(rows[order], items[order], self.mass[to_device(chosen[order], self.mass.device)])

    def add_to(self, scores: Tensor, first: int, stop: int) -> Tensor:
        """Add the mass to scores, in place.

        Args:
            scores: [queries, stop - first] of items `first` to `stop`.
            first: of the items.
            stop: of the items, exclusive.

        Returns:
            `scores`.
        """
        begin, end = np.searchsorted(self.items, [first, stop])
        rows, items = (places[begin:end] for places in self._places)
        cells = rows, items - first
        mass = self.mass[begin:end].to(scores.dtype)
        scores[cells] = torch.logaddexp(scores[cells], mass)
        return scores

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor]:
        return to_device(self.rows, self.mass.device), to_device(self.items, self.mass.device)


def _by_item(rows: Int64Array, items: Int64Array) -> Int64Array:
    """The order of pairs by item, then by row, then as they are.

    Sorting numbers is several times as fast as sorting places by them: item, row and place are one number
    where 63 bits suffice for all three.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    by_place, by_row = (int(most).bit_length() for most in (len(rows) - 1, rows.max()))
    if int(items.max()).bit_length() + by_row + by_place > _BITS:
        return np.lexsort((rows, items))
    order = (items.astype(np.int64, copy=False) << by_row | rows) << by_place
    order |= np.arange(len(rows))
    order.sort()
    return order & ((1 << by_place) - 1)


def _log_sums(mass: Tensor, first: np.ndarray) -> Tensor:
    """Logarithms of sums of neighbors, of which each group begins at a true value of `first`."""
    starts = np.flatnonzero(first)
    lengths = to_device(np.diff(starts, append=len(first)), mass.device)
    group = to_device(np.cumsum(first) - 1, mass.device)
    most = torch.segment_reduce(mass, "max", lengths=lengths, unsafe=True)
    level = most.masked_fill(most == float("-inf"), 0.0)
    odds = (mass - level[group]).exp()
    return torch.segment_reduce(odds, "sum", lengths=lengths, unsafe=True).log() + level
