"""How the kernel is cut."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from models.distributed.tables.kernels.sums import group_sums_kernel
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape

_AT_ONCE = 16
_SHAPE = TileShape(1, _AT_ONCE, 4, 1)


def sum_groups(gradients: Tensor, order: Tensor, starts: Tensor, rows: Tensor, number: Tensor) -> Tensor:
    """See `models.distributed.tables.kernels.sum_groups`."""
    gradients = gradients.contiguous()
    sums = torch.empty_like(gradients)
    width = gradients.shape[1]
    arguments = {
        "gradients": gradients, "order": order, "starts": starts, "rows": rows, "number": number,
        "sums": sums, "WIDTH": width, "DIM": triton.next_power_of_2(width), "AT_ONCE": _AT_ONCE,
    }  # fmt: skip
    launch(group_sums_kernel, (len(gradients), 1), _SHAPE, arguments)
    return sums
