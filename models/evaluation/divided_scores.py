"""Scores of items that are divided among processes: each counts rivals among those that it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.data.sequences import Int64Array
from models.distributed.sharding import HeldItems
from models.evaluation.scores import (
    CELLS,
    Pairs,
    ProductScores,
    Scores,
    SharedScores,
    joined_pairs,
    ranks_of,
    rivals_ahead,
    to_device,
)


@dataclass(frozen=True)
class _Told:
    """What a process says of its targets."""

    queries: int
    question: Int64Array  # [targets]
    target: Int64Array  # [targets]
    excluded: Pairs


@dataclass(frozen=True)
class DividedScores:
    """Inner products of this process's queries with the item vectors of all processes.

    Queries travel, and counts: what is sent does not grow with the catalog. Every process makes products of
    the same shape, so that equal vectors tie wherever they are.
    """

    query: Tensor
    """[questions, dim], of this process's own number."""
    items: Tensor
    """[held.most, dim] vectors of the items held here, filled up by `HeldItems.filled`."""
    held: HeldItems

    @property
    def device(self) -> torch.device:
        return self.query.device

    def rank(
        self, question: Int64Array, target: Int64Array, excluded: Pairs | None = None, *, cells: int = CELLS
    ) -> Tensor:
        """Rank each target as `models.evaluation.scores.rank_targets` does, all processes together.

        Args:
            question: [targets] which query a target asks.
            target: [targets] items, numbered from the first known one; negative for one that is not known.
            excluded: rows and items of candidates left out, both [pairs]; pairs may repeat.
            cells: scores made at once, at most, but for a target that has more.

        Returns:
            [targets] float64 on the device.
        """
        processes, none = self.held.processes, np.empty(0, np.int64)
        told = processes.all_gather_object(_Told(len(self.query), question, target, excluded or (none, none)))
        begins = np.cumsum([0, *(len(each.target) for each in told)])
        rows = int(begins[-1])
        shifted = [
            (begin + each.excluded[0], each.excluded[1]) for begin, each in zip(begins, told, strict=False)
        ]
        own = self._here(np.arange(rows), np.concatenate([each.target for each in told]))
        left_out = joined_pairs(own, self._here(*joined_pairs(*shifted)), self._filling(rows))
        ahead = rivals_ahead(
            self._scores(told), rows, own, left_out, self.held.most, cells=cells, total=processes.all_reduce
        )
        return ranks_of(ahead[begins[processes.rank] : begins[processes.rank + 1]], target, excluded)

    def _scores(self, told: list[_Told]) -> Scores:
        """Of the targets of all processes, in their order, with the items held here."""
        width = max(each.queries for each in told)
        questions = np.concatenate([rank * width + each.question for rank, each in enumerate(told)])
        own = F.pad(self.query, (0, 0, 0, width - len(self.query)))
        scores = ProductScores(self.held.processes.all_gather(own).flatten(0, 1), self.items)
        if np.array_equal(questions, np.arange(len(scores.query))):
            return scores
        return SharedScores(scores, to_device(questions, self.device))

    def _here(self, rows: Int64Array, items: Int64Array) -> Pairs:
        """Of rows and items those whose item is held here, as rows and places."""
        places = self.held.place(torch.from_numpy(items)).numpy()
        here = (items >= 0) & (places >= 0)
        return rows[here], places[here]

    def _filling(self, num_targets: int) -> Pairs:
        """The column that only fills up, where this process holds an item less than others."""
        missing = self.held.most - self.held.count
        return np.tile(np.arange(num_targets), missing), np.full(num_targets * missing, self.held.count)
