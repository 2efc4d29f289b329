"""Sums of gradients by row on the GPU. Triton is imported by whoever runs the kernels, not by this module."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpu import availability

_MOST = 1 << 30  # places are int32


def fits(gradients: Tensor) -> bool:
    """Whether the kernel takes gradients of look-ups, [n, dim], here."""
    fitting = gradients.dtype == torch.float32 and len(gradients) < _MOST
    return fitting and not torch.compiler.is_compiling() and availability.runs_experimental(gradients)


def sum_groups(gradients: Tensor, order: Tensor, starts: Tensor, rows: Tensor, number: Tensor) -> Tensor:
    """[n, dim] sums of groups of gradients, each in its order; zeros for row 0, and after the last group.

    Args:
        gradients: [n, dim] float32, for tensors that `fits`.
        order: [n] int64 places of gradients, group by group.
        starts: [n + 1] int64 where each group begins in `order`.
        rows: [n] int64 row of each group.
        number: [1] int64 of groups.
    """
    from models.distributed.tables.kernels.launch import sum_groups as launch_sums

    return launch_sums(gradients, order, starts, rows, number)
