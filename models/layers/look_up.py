"""Rows of a table, whose gradient two runs find alike to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.gpu.row_sums import any_order, sum_rows


def look_up(ids: Tensor, table: Tensor, *, padding: bool = False) -> Tensor:
    """`F.embedding(ids, table)`, whose gradient is summed in a fixed order; see `sum_rows`.

    Where kernels run it can be differentiated once.

    Args:
        ids: [...] int64 rows.
        table: [rows, dim].
        padding: whether row 0 gets no gradient.
    """
    if table.requires_grad and torch.is_grad_enabled() and any_order(ids, table):
        found: Tensor = _LookUp.apply(ids, table, padding)
        return found
    return F.embedding(ids, table, padding_idx=0 if padding else None)


class Embedding(nn.Embedding):
    """torch's, of a table that may have few rows: see `look_up`. Padding, if there is any, is row 0."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., embedding_dim] of ids."""
        if self.padding_idx in (None, 0):
            return look_up(input, self.weight, padding=self.padding_idx == 0)
        return super().forward(input)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, padding: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.padding = len(table), padding
        return F.embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[None, Tensor, None]:
        (ids,) = ctx.saved_tensors
        return None, sum_rows(given.contiguous(), ids, ctx.rows, padding=ctx.padding), None
