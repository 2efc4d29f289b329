"""Sums of rows that are alike: gradients of look-ups. Triton is imported by whoever runs the kernels, not by
this module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.gpu import availability
from models.gpu.row_sums.groups import Groups, grouped

_MOST = 1 << 30  # places are int32
_FEW = 2048
"""Rows of the tables whose gradients torch may sum in any order."""
_embedding_backward: Any = torch.ops.aten.embedding_dense_backward


def fits(gradients: Tensor) -> bool:
    """Whether the kernel takes gradients of look-ups, [n, dim], here."""
    fitting = gradients.dtype == torch.float32 and len(gradients) < _MOST
    return fitting and not torch.compiler.is_compiling() and availability.runs_on(gradients)


def sum_groups(gradients: Tensor, groups: Groups) -> Tensor:
    """[n, dim] sums of groups of gradients, each in its order; zeros for row 0, and after the last group.

    Groups of many gradients, as those of popular items are, are summed in pieces side by side.

    Args:
        gradients: [n, dim] float32, for tensors that `fits`; n at least 1.
        groups: of them.
    """
    from models.gpu.row_sums.launch import sum_groups as launch_sums

    return launch_sums(gradients, groups)


def any_order(rows: Tensor, table: Tensor) -> bool:
    """Whether torch may sum the gradients of look-ups of a table in any order, where the kernels need not."""
    return _few(rows, len(table), table)


def _few(rows: Tensor, count: int, like: Tensor) -> bool:
    return count <= _FEW and rows.numel() > count and fits(like)


def sum_rows(
    gradients: Tensor, rows: Tensor, count: int, *, padding: bool = False, groups: Groups | None = None
) -> Tensor:
    """[count, dim] the gradient of a table: gradients of look-ups summed by row, in a fixed order.

    torch's own operation adds up by atomics where many look-ups find few rows (torch 2.11: fewer than four
    for each multiprocessor), in whatever order threads come: two runs, and two processes, then differ in
    their last bits.

    Args:
        gradients: [n, dim].
        rows: [n] int64.
        count: of rows.
        padding: whether row 0 gets zeros.
        groups: of the look-ups, where these are known, row 0 being padding: kernels sum them then, and not
            torch, which adds up those of one row in a queue.
    """
    gradients, rows = gradients.reshape(-1, gradients.shape[-1]), rows.flatten()
    before = 0 if padding else 1  # rows of the table before those that count
    if groups is None:
        if not _few(rows, count, gradients):
            whole: Tensor = _embedding_backward(gradients, rows, count, 0 if padding else -1, False)
            return whole
        groups = grouped(rows + before, count + before)
    from models.gpu.row_sums.launch import sum_into

    return sum_into(gradients.new_zeros(count, gradients.shape[1]), gradients, groups, before)
