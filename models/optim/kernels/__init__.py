"""Steps of optimizers by rows on the GPU: rows are read where they lie, once, and written once.

Triton is imported by whoever runs the kernels, not by this module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.gpu import availability


def fits(table: Tensor) -> bool:
    """Whether the kernels take a table, [rows, dim], here."""
    if table.dtype != torch.float32 or torch.compiler.is_compiling():
        return False
    return availability.runs_on(table)


def step(
    table: Tensor, rows: Tensor, values: Tensor, state: dict[str, Tensor], group: dict[str, Any]
) -> None:
    """Update some rows of a table, and their state, in place.

    Args:
        table: [rows, dim], for tensors that `fits`.
        rows: [n] int64, each once but 0, of which nothing is touched.
        values: [n, dim] float32, the gradient of each; rows whose gradient is zero stay as they are.
        state: `sum`, of row-wise Adagrad, or `steps`, `last`, `exp_avg` and `exp_avg_sq`, of Adam by rows,
            with `steps` counting this one.
        group: settings.
    """
    from models.optim.kernels.launch import step as launch_step

    launch_step(table, rows, values, state, group)
