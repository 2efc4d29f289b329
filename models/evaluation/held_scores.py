"""Scores of items by inner products, where each process holds the vectors of all items or of some."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.data.sequences import Int64Array
from models.distributed.tables import HeldItems
from models.evaluation.scores import (
    CELLS,
    DenseMass,
    Pairs,
    ProductScores,
    Scores,
    SharedScores,
    joined_pairs,
    log_sums,
    ranks_of,
    rivals_ahead,
)
from models.evaluation.sparse import SparseMass
from models.evaluation.transfer import to_device


@dataclass(frozen=True)
class _Asked:
    """What a process has to rank."""

    queries: int
    query_index: Int64Array  # [targets]
    target: Int64Array  # [targets]
    excluded: Pairs
    mass: tuple[Int64Array, Int64Array, Tensor] | None  # rows (queries), items and logarithms, on the host


@dataclass(frozen=True)
class HeldScores(Scores):
    """Inner products of this process's queries with the item vectors of all processes.

    Where items are divided, each process counts the rivals ahead among those that it holds: queries travel,
    and counts, and what is sent does not grow with the catalog. Every process makes products of the same
    shape, so that equal vectors tie wherever they are.
    """

    query: Tensor
    """[queries, dim], of this process's own number."""
    items: Tensor
    """[held.most, dim] vectors of the items held here, filled up by `HeldItems.filled`."""
    held: HeldItems
    mass: SparseMass | None = None
    """What this process's queries have for few items besides, held here or not; scores then are logits,
    divided by the temperature. Where items are divided, all processes have some, or none does."""
    trend: DenseMass | None = None
    """What they have for any item; none where items are divided."""

    @property
    def device(self) -> torch.device:
        return self.query.device

    def columns(self, first: int, stop: int) -> Tensor:
        """Of the items that this process holds, in order."""
        mass = self._mass_here(self.mass)
        return ProductScores(self.query, self.items, mass, self.trend).columns(first, stop)

    def rank(
        self,
        query_index: Int64Array | None,
        target: Int64Array,
        num_items: int,
        excluded: Pairs | None = None,
        *,
        cells: int = CELLS,
    ) -> Tensor:
        """See `Scores.rank`. Collective where items are divided: each process ranks targets of its own."""
        if not self.held.is_divided:
            return super().rank(query_index, target, num_items, excluded, cells=cells)
        processes, none = self.held.processes, np.empty(0, np.int64)
        query_index = np.arange(len(target)) if query_index is None else query_index
        asked = processes.all_gather_object(
            _Asked(len(self.query), query_index, target, excluded or (none, none), self._mass_on_host())
        )
        begins = np.cumsum([0, *(len(each.target) for each in asked)])
        rows = int(begins[-1])
        shifted = [
            (begin + each.excluded[0], each.excluded[1]) for begin, each in zip(begins, asked, strict=False)
        ]
        own = self._here(np.arange(rows), np.concatenate([each.target for each in asked]))
        left_out = joined_pairs(own, self._here(*joined_pairs(*shifted)), self._filling(rows))
        ahead = rivals_ahead(
            self._scores_of_all(asked),
            rows,
            own,
            left_out,
            self.held.most,
            cells=cells,
            total=processes.all_reduce,
        )
        return ranks_of(ahead[begins[processes.rank] : begins[processes.rank + 1]], target, excluded)

    def log_sums(self) -> Tensor:
        """[queries] the logarithm of the sum over all known items of the exponentials of scores.

        Collective where items are divided.
        """
        if not self.held.is_divided:
            return log_sums(self, len(self.query), self.held.count)
        processes, none, every = self.held.processes, np.empty(0, np.int64), np.arange(len(self.query))
        asked = processes.all_gather_object(
            _Asked(len(every), every, none, (none, none), self._mass_on_host())
        )
        begins = np.cumsum([0, *(each.queries for each in asked)])
        here = log_sums(self._scores_of_all(asked), int(begins[-1]), self.held.count)
        level = processes.all_reduce(here, "max")
        whole = processes.all_reduce((here - level).exp()).log() + level
        return whole[begins[processes.rank] : begins[processes.rank + 1]]

    def mixed_with(self, votes: SparseMass, share: float) -> HeldScores:
        """The logarithms of `(1 - share) softmax(scores) + share exp(votes)`, but for a term a query.

        Collective where items are divided.

        Args:
            votes: logarithms of probabilities, which sum to one for each query that has any.
            share: between 0 and 1.
        """
        level = self.log_sums() + math.log(share / (1.0 - share))
        mass = votes.mass + level[to_device(votes.rows, self.device)]
        votes = replace(votes, mass=mass)
        return replace(self, mass=votes if self.mass is None else SparseMass.joined([self.mass, votes]))

    def _scores_of_all(self, asked: list[_Asked]) -> Scores:
        """Of the targets of all processes, in their order, with the items held here."""
        width = max(each.queries for each in asked)
        inverse = np.concatenate([rank * width + each.query_index for rank, each in enumerate(asked)])
        own = F.pad(self.query, (0, 0, 0, width - len(self.query)))
        masses = [
            SparseMass(rank * width + rows, items, mass.to(self.device))
            for rank, each in enumerate(asked)
            if each.mass is not None
            for rows, items, mass in [each.mass]
        ]
        mass = self._mass_here(SparseMass.joined(masses)) if masses else None
        scores = ProductScores(self.held.processes.all_gather(own).flatten(0, 1), self.items, mass)
        if np.array_equal(inverse, np.arange(len(scores.query))):
            return scores
        return SharedScores(scores, to_device(inverse, self.device))

    def _here(self, rows: Int64Array, items: Int64Array) -> Pairs:
        """Of rows and items those whose item is held here, as rows and places."""
        places = self.held.place(torch.from_numpy(items)).numpy()
        here = (items >= 0) & (places >= 0)
        return rows[here], places[here]

    def _mass_on_host(self) -> tuple[Int64Array, Int64Array, Tensor] | None:
        return None if self.mass is None else (self.mass.rows, self.mass.items, self.mass.mass.cpu())

    def _mass_here(self, mass: SparseMass | None) -> SparseMass | None:
        """Of the items held here, by their places."""
        if mass is None or not self.held.is_divided:
            return mass
        places = self.held.place(torch.from_numpy(mass.items)).numpy()
        here = np.flatnonzero(places >= 0)
        return mass.take(here, mass.rows[here], places[here])

    def _filling(self, num_targets: int) -> Pairs:
        """The column that only fills up, where this process holds an item less than others."""
        missing = self.held.most - self.held.count
        return np.tile(np.arange(num_targets), missing), np.full(num_targets * missing, self.held.count)
