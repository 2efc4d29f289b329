"""Scores of negatives: those that all positions of a batch share, and those sampled for each position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.losses import kernels

_ROWS_A_DRAW = 64
"""Without the kernel: with up to so many rows for each draw, the product was faster (H100, float32, widths 50
and 256)."""


@dataclass(frozen=True, eq=False)
class SharedNegatives:
    """Negatives of every position of a batch."""

    ranks: Tensor
    """[count] item ranks."""
    vectors: Tensor
    """[count, dim]."""
    mask: Tensor | None = None
    """[count] bool, false for those that do not count; None: all do."""
    hidden: Callable[[slice], Tensor] | None = None
    """[positions, count] bool, true for those that do not count, for a slice of positions; None: all do."""

    def of(self, part: slice) -> Tensor:
        """[1, count] item ranks for a slice of positions."""
        return self.ranks[None]

    def excluded(self, part: slice, target: Tensor) -> Tensor:
        """[positions, count] whether a negative does not count: masked, or the target itself."""
        own = self.ranks == target[part, None]
        if self.hidden is not None:
            own = own | self.hidden(part)
        return own if self.mask is None else own | ~self.mask

    def scores(self, part: slice, query: Tensor, vectors: Tensor) -> Tensor:
        """[positions, count] dot products with the queries of a slice of positions."""
        return query @ vectors.T

    @property
    def width(self) -> int:
        """Scores in memory for a position."""
        return len(self.ranks)


@dataclass(frozen=True, eq=False)
class OwnNegatives:
    """Negatives that were sampled for each position."""

    ranks: Tensor
    """[positions, count] item ranks."""
    rows: Tensor
    """[positions, count] their rows in `vectors`."""
    vectors: Tensor
    """[rows, dim]."""
    mask = None
    hidden = None

    def of(self, part: slice) -> Tensor:
        """[positions, count] item ranks for a slice of positions."""
        return self.ranks[part]

    def excluded(self, part: slice, target: Tensor) -> Tensor:
        """[positions, count] whether a negative does not count, being the target itself."""
        return self.ranks[part] == target[part, None]

    def scores(self, part: slice, query: Tensor, vectors: Tensor) -> Tensor:
        """[positions, count] dot products with the queries of a slice of positions."""
        rows = self.rows[part]
        if self._takes_all:
            return (query @ vectors.T).gather(1, rows)
        return scores_of_rows(query, vectors, rows)

    @property
    def width(self) -> int:
        """Scores in memory for a position."""
        return len(self.vectors) if self._takes_all else self.rows.shape[1]

    @property
    def _takes_all(self) -> bool:
        """Whether the product of all queries and rows takes less time than fetching rows one by one."""
        if not self.vectors.is_cuda or kernels.fits(self.rows, self.vectors):
            return False
        return len(self.vectors) <= _ROWS_A_DRAW * self.rows.shape[1]


Negatives = SharedNegatives | OwnNegatives


def scores_of_rows(query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """Dot products of each query with its own rows of a table; [positions, count, dim] is never made.

    On a GPU by kernels of our own where those fit (`models.losses.kernels`). Can be differentiated once.

    Args:
        query: [positions, dim].
        table: [items, dim], of the same type; the kernels also take float32 beside half precision.
        rows: [positions, count] int64.

    Returns:
        [positions, count].
    """
    if kernels.fits(rows, query, table):
        return kernels.scores_of_rows(query, table, rows)
    scores: Tensor = _ScoresOfRows.apply(query, table, rows)
    return scores


class _ScoresOfRows(torch.autograd.Function):
    """A bag of rows, `sum_k weight[p, k] * table[rows[p, k]]`, is a sum over k that torch does in one kernel.

    Its gradient for the weights is the score; that for the query is the bag weighted by the scores'
    gradients, whose own gradient for the table, at the query, is that of the scores.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(query, table, rows)
        with torch.enable_grad():
            weight = query.new_zeros(rows.shape, requires_grad=True)
            bags = F.embedding_bag(rows, table.detach(), per_sample_weights=weight, mode="sum")
        return torch.autograd.grad(bags, weight, query)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scores: Tensor) -> tuple[Tensor, Tensor, None]:
        query, table, rows = ctx.saved_tensors
        with torch.enable_grad():
            leaf = table.detach().requires_grad_()
            bags = F.embedding_bag(rows, leaf, per_sample_weights=grad_scores.contiguous(), mode="sum")
        return bags.detach(), torch.autograd.grad(bags, leaf, query)[0], None
