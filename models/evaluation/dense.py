"""Several kinds of mass that any items may have, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from models.evaluation.scores import DenseMass


@dataclass(frozen=True)
class DenseMasses:
    """All of some masses, added one after the other."""

    parts: Sequence[DenseMass]

    @staticmethod
    def of(*parts: DenseMass | None) -> DenseMass | None:
        """Of those that there are; None of none."""
        there = [part for part in parts if part is not None]
        return DenseMasses(there) if len(there) > 1 else next(iter(there), None)

    def add_to(self, scores: Tensor, first: int, stop: int) -> Tensor:
        """Add them to [queries, stop - first] scores of items `first` to `stop`, in place."""
        for part in self.parts:
            scores = part.add_to(scores, first, stop)
        return scores
