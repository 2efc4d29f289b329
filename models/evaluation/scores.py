"""Scores of candidates and the ranks of targets among them, a range of items at a time.

A catalog of ten million items gives a row of ten million scores a target: they are counted in parts, and no
more of them than `CELLS` is made at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from models.data.sequences import Int64Array
from models.evaluation.sparse import SparseMass
from models.evaluation.transfer import to_device

CELLS = 1 << 25
"""Scores made at once."""

Pairs = tuple[Int64Array, Int64Array]


class Scores(ABC):
    """What every known item scores for some queries. Items are numbered from the first known one."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the scores are."""

    @abstractmethod
    def columns(self, first: int, stop: int) -> torch.Tensor:
        """[queries, stop - first] scores of items `first` to `stop`, always the same for the same range."""

    def rank(
        self,
        query_index: Int64Array | None,
        target: Int64Array,
        num_items: int,
        excluded: Pairs | None = None,
        *,
        cells: int = CELLS,
    ) -> torch.Tensor:
        """Rank targets, of which several may have the same query, as those of a basket do.

        Args:
            query_index: [targets] the query of each target; None: each has its own, in this order.
            target: see `rank_targets`, as the others are.
            num_items: known items.
            excluded: rows (targets) and items of candidates left out.
            cells: scores made at once, at most, but for a target that has more.

        Returns:
            [targets] float64 on the device.
        """
        scores = self if query_index is None else SharedScores(self, to_device(query_index, self.device))
        return rank_targets(scores, target, num_items, excluded, cells=cells)


@dataclass(frozen=True)
class RowScores(Scores):
    """Scores that are there already."""

    rows: torch.Tensor
    """[targets, items]."""

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def columns(self, first: int, stop: int) -> torch.Tensor:
        return self.rows[:, first:stop]


class DenseMass(Protocol):
    """Unnormalized probability that any items may have for some queries, beside their scores."""

    def add_to(self, scores: torch.Tensor, first: int, stop: int) -> torch.Tensor:
        """Add it to [queries, stop - first] scores of items `first` to `stop`, which are logits, in place."""


@dataclass(frozen=True)
class ProductScores(Scores):
    """Inner products of queries and item vectors."""

    query: torch.Tensor
    """[targets, dim]."""
    items: torch.Tensor
    """[items, dim]."""
    mass: SparseMass | None = None
    """What queries have for few items besides; scores then are logits, divided by the temperature."""
    trend: DenseMass | None = None
    """What they have for any item; likewise."""

    @property
    def device(self) -> torch.device:
        return self.query.device

    def columns(self, first: int, stop: int) -> torch.Tensor:
        # Whole tiles: libraries round columns past the last whole one otherwise, and copies would not tie.
        width = stop - first
        items = F.pad(self.items[first:stop], (0, 0, 0, -width % 64))
        found = (self.query @ items.T)[:, :width]
        if self.trend is not None:
            found = self.trend.add_to(found.contiguous(), first, stop)
        return found if self.mass is None else self.mass.add_to(found, first, stop)


@dataclass(frozen=True)
class SharedScores(Scores):
    """Scores of targets by unique queries and an inverse index."""

    unique: Scores
    """Of the unique queries."""
    inverse: torch.Tensor
    """[targets] the query of each target."""

    @property
    def device(self) -> torch.device:
        return self.unique.device

    def columns(self, first: int, stop: int) -> torch.Tensor:
        return self.unique.columns(first, stop)[self.inverse]


def rank_targets(
    scores: Scores,
    target: Int64Array,
    num_items: int,
    excluded: Pairs | None = None,
    *,
    cells: int = CELLS,
) -> torch.Tensor:
    """Rank each target: 1 plus the number of other candidates that do not score below it.

    Ties count against the target, and so does a score that is not a number. A target that is no candidate
    (it is unknown, or excluded) is a miss: its rank is infinite. A target's own score is taken from the
    product that its rivals' come from, so that equal vectors tie; where items do not fit into one range, that
    takes a second product of the ranges that hold targets. Nothing here waits for the device.

    Args:
        scores: of the targets with every item; every item is a candidate.
        target: [targets] items, numbered from the first known one; negative for an item that is not known.
        num_items: known items.
        excluded: rows and items of candidates left out, both [pairs]; pairs may repeat.
        cells: scores made at once, at most, but for a target that has more.

    Returns:
        [targets] float64 on the scores' device.
    """
    row, known = np.arange(len(target)), target >= 0
    own = row[known], target[known]
    left_out = own if excluded is None else joined_pairs(excluded, own)
    ahead = rivals_ahead(scores, len(target), own, left_out, num_items, cells=cells)
    return ranks_of(ahead, target, excluded)


def ranks_of(ahead: torch.Tensor, target: Int64Array, excluded: Pairs | None) -> torch.Tensor:
    """[targets] float64 ranks from the rivals ahead of each target; infinite where it is no candidate."""
    miss = target < 0
    if excluded is not None:
        rows, columns = excluded
        miss[rows[columns == target[rows]]] = True
    return (1.0 + ahead.double()).masked_fill(to_device(miss, ahead.device), float("inf"))


def joined_pairs(*pairs: Pairs) -> Pairs:
    """All pairs in one."""
    rows, columns = zip(*pairs, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def rivals_ahead(
    scores: Scores,
    num_targets: int,
    own: Pairs,
    left_out: Pairs,
    num_items: int,
    *,
    cells: int = CELLS,
    total: Callable[[torch.Tensor], torch.Tensor] = lambda part: part,
) -> torch.Tensor:
    """Count the items that do not score below each target.

    Args:
        scores: of the targets with every item that is here.
        num_targets: rows of the scores.
        own: rows, and items of the targets, of those whose item is here.
        left_out: rows and items that are not counted; `own` among them.
        num_items: columns of the scores.
        cells: scores made at once, at most, but for a target that has more.
        total: sums over the processes among which the items are divided.

    Returns:
        [num_targets] int64 on the scores' device.
    """
    device = scores.device
    ranges = item_ranges(num_items, cells // max(1, num_targets))
    asked, ignored = (Cells(*pairs, device, len(ranges) > 1) for pairs in (own, left_out))
    # Kept for what is asked for next: the last range of the first pass is the first of the second.
    columns_of = lru_cache(maxsize=1)(scores.columns)
    score: torch.Tensor | None = None
    for first, stop, fresh in ranges:
        rows_here, columns_here = asked.between(fresh, stop, first)
        if score is None or len(rows_here):
            found = columns_of(first, stop)
            score = torch.zeros(num_targets, dtype=found.dtype, device=device) if score is None else score
            score[rows_here] = found[rows_here, columns_here]
    ahead = torch.zeros(num_targets, dtype=torch.int64, device=device)
    if score is None:
        return ahead
    score = total(score)
    for first, stop, fresh in reversed(ranges):
        not_below = (columns_of(first, stop)[:, fresh - first :] < score[:, None]).logical_not_()
        not_below[ignored.between(fresh, stop, fresh)] = False
        ahead += not_below.sum(1, dtype=torch.int32)
    return total(ahead)


def log_sums(scores: Scores, num_queries: int, num_items: int, *, cells: int = CELLS) -> torch.Tensor:
    """[queries] the logarithm of the sum over items of the exponentials of scores; minus infinity of none."""
    total = torch.full((num_queries,), float("-inf"), device=scores.device)
    for first, stop, fresh in item_ranges(num_items, cells // max(1, num_queries)):
        part = scores.columns(first, stop)[:, fresh - first :].logsumexp(1)
        total = torch.logaddexp(total, part.to(total.dtype))
    return total


def item_ranges(num_items: int, most: int) -> list[tuple[int, int, int]]:
    """Cut items into ranges of one length, so that all products are made alike and equal vectors tie.

    >>> item_ranges(10, 4)
    [(0, 4, 0), (4, 8, 4), (6, 10, 8)]

    Args:
        num_items: known items.
        most: items of a range, at most; at least one is taken.

    Returns:
        First item, end, and the first item that was not in a range before.
    """
    count = -(-num_items // max(1, most))
    size = -(-num_items // max(1, count))
    return [
        (min(fresh, num_items - size), min(fresh + size, num_items), fresh)
        for fresh in range(0, num_items, max(1, size))
    ]


class Cells:
    """Cells of the table of scores, on the device, found by ranges of columns.

    Args:
        rows: [cells].
        columns: [cells].
        device: of the scores.
        several: whether anything but all columns will be asked for.
    """

    def __init__(self, rows: Int64Array, columns: Int64Array, device: torch.device, several: bool) -> None:
        if several:
            order = np.argsort(columns)
            rows, columns = rows[order], columns[order]
        self.several, self.sorted = several, columns
        self.rows, self.columns = to_device(rows, device), to_device(columns, device)

    def between(self, first: int, stop: int, origin: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows, and columns counted from `origin`, of the cells in columns `first` to `stop`."""
        begin, end = np.searchsorted(self.sorted, [first, stop]) if self.several else (0, len(self.sorted))
        return self.rows[begin:end], self.columns[begin:end] - origin
