"""Sums of gradients by row on the GPU. Triton is imported by whoever runs the kernels, not by this module."""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpu import availability

_MOST = 1 << 30  # places are int32


def fits(gradients: Tensor) -> bool:
    """Whether the kernel takes gradients of look-ups, [n, dim], here."""
    fitting = gradients.dtype == torch.float32 and len(gradients) < _MOST
    return fitting and not torch.compiler.is_compiling() and availability.runs_on(gradients)


def sum_groups(gradients: Tensor, order: Tensor, group: Tensor, begins: Tensor, rows: Tensor) -> Tensor:
    """[n, dim] sums of groups of gradients, each in its order; zeros for row 0, and after the last group.

    Groups of many gradients, as those of popular items are, are summed in pieces side by side.

    Args:
        gradients: [n, dim] float32, for tensors that `fits`; n at least 1.
        order: [n] int64 places of gradients, group by group.
        group: [n] int64 the group of each of these, from 0 on.
        begins: [n] bool, whether it is the first of its group.
        rows: [n] int64 row of each group, 0 after the last.
    """
    from models.distributed.tables.kernels.launch import sum_groups as launch_sums

    return launch_sums(gradients, order, group, begins, rows)
