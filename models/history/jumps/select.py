"""Rows of small tables by many indices, with gradients that are fast where few rows get all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CELLS = 1 << 24
"""Elements of the one-hot matrices that are made at once."""


def select(table: Tensor, index: Tensor) -> Tensor:
    """`table[index]`, differentiable once with respect to the table.

    Torch adds the gradients of equal indices one after the other on a GPU: with hundreds of thousands of
    indices of a few rows, that takes longer than all else. Here they are products with one-hot matrices, in a
    fixed order.

    Args:
        table: [rows] or [rows, columns] float.
        index: int64, of any shape.

    Returns:
        [*index.shape] or [*index.shape, columns].
    """
    selected: Tensor = _Select.apply(table, index)
    return selected


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table[index]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        rows, *columns = ctx.shape
        gradient, index = gradient.reshape(-1, *columns), index.flatten()
        if gradient.device.type == "cpu":
            return gradient.new_zeros(ctx.shape).index_add_(0, index, gradient), None
        return summed_by_products(gradient, index, rows, _CELLS), None


def summed_by_products(values: Tensor, index: Tensor, rows: int, cells: int) -> Tensor:
    """[rows] or [rows, columns] sums of the values of each index.

    Args:
        values: [n] or [n, columns].
        index: [n].
        rows: indices are below.
        cells: elements of a one-hot matrix, at most, but for one of a single value.
    """
    row = torch.arange(rows, device=values.device)
    total = values.new_zeros(rows, *values.shape[1:])
    size = max(1, cells // rows)
    for first in range(0, len(values), size):
        part = slice(first, first + size)
        hot = (index[part, None] == row).to(values.dtype)
        total = total + (values[part] @ hot if values.ndim == 1 else hot.T @ values[part])
    return total
