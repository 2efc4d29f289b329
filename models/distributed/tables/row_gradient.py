"""Gradients of the rows of a table that a step looks up: they do not grow with the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.gpu import row_sums
from models.gpu.row_sums.groups import Groups, grouped


class RowGradient(NamedTuple):
    """The gradient of some rows of a table; of all others it is zero.

    Its shape follows how many look-ups there were, not how many rows these found, so that nothing has to wait
    for the device: places that are left over hold row 0, padding, with zeros.
    """

    rows: Tensor
    """[n] int64 rows, each of them once but 0."""
    values: Tensor
    """[n, dim] the gradient of each, float32."""


class RowGradients:
    """Look-ups and their gradients, from one step of an optimizer to the next."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, at the start of a step."""
        self._found: list[tuple[Tensor, Tensor]] = []
        self._groups: Groups | None = None
        self._summed: RowGradient | None = None

    def add(self, rows: Tensor, gradients: Tensor, groups: Groups | None = None) -> None:
        """Note the gradients of look-ups.

        Args:
            rows: [n] int64, any row any number of times; the gradient of row 0 does not count.
            gradients: [n, dim].
            groups: the look-ups by row, where that is known.
        """
        self._groups = None if self._found else groups
        self._found.append((rows, gradients))
        self._summed = None

    def summed(self, like: Tensor) -> RowGradient:
        """The gradients of all look-ups, summed by row; always the same until there are others.

        Args:
            like: the table.
        """
        if self._summed is None:
            self._summed = sum_by_row(self._found, like, self._groups)
        return self._summed


def end_to_end(found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows, and gradients, of several look-ups as one; those of a single one are not copied."""
    if len(found) == 1:
        return found[0]
    return torch.cat([rows for rows, _ in found]), torch.cat([gradients for _, gradients in found])


@torch.no_grad()
def sum_by_row(
    found: Sequence[tuple[Tensor, Tensor]], like: Tensor, groups: Groups | None = None
) -> RowGradient:
    """Sum the gradients of look-ups by row, in a fixed order: two runs give the same bits.

    Args:
        found: rows, [n] int64, and gradients, [n, dim], of several look-ups.
        like: the table, [rows, dim].
        groups: all look-ups by row, where that is known.
    """
    if not sum(len(rows) for rows, _ in found):
        return RowGradient(like.new_zeros(0, dtype=torch.int64), like.new_zeros(0, like.shape[1]))
    rows, gradients = end_to_end(found)
    gradients = gradients.to(like.dtype)
    groups = groups or grouped(rows, len(like))
    if row_sums.fits(gradients):
        return RowGradient(groups.rows, row_sums.sum_groups(gradients, groups))
    place = torch.empty_like(groups.group).scatter_(0, groups.order, groups.group)
    # Not `index_add_`, whose result depends on the order of threads. Its groups are in order of rows.
    values = row_sums.sum_rows(gradients, place, len(rows))
    return RowGradient(groups.rows, values.masked_fill_((groups.rows == 0)[:, None], 0.0))
