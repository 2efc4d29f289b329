"""Which kernel takes a step, and its arguments."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape
from models.optim.kernels.updates import adam_kernel, rowwise_adagrad_kernel

_SHAPE = TileShape(1, 1, 2, 1)
_NEVER = -1e30
"""The logarithm of a beta of 0."""


def step(
    table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    """See `models.optim.kernels.step`."""
    width = table.shape[1]
    rate = group["lr"]
    # A scalar on the host is a number to torch's operations, and is one here.
    rate = rate.to(table.device) if isinstance(rate, Tensor) else torch.full((), rate, device=table.device)
    arguments: dict[str, Any] = {
        "table": table, "rows": rows, "values": values.contiguous(), "rate": rate,
        "decay": float(group["weight_decay"]), "eps": float(group["eps"]), "WIDTH": width,
        "DIM": triton.next_power_of_2(width),
    }  # fmt: skip
    if not len(rows):
        return
    if "sum" in state:
        launch(rowwise_adagrad_kernel, (len(rows), 1), _SHAPE, {**arguments, "sums": state["sum"]})
        return
    for number, beta in enumerate(group["betas"], 1):
        arguments[f"log_beta_{number}"] = math.log(beta) if beta else _NEVER
    launch(adam_kernel, (len(rows), 1), _SHAPE, {**arguments, **state})
