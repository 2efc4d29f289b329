"""Gradient clipping where a process has only a part of the gradient, or has it by rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.distributed.tables.table import ItemTable

_EPS = 1e-6
"""Of `nn.utils.clip_grads_with_norm_`."""


def clip_grad_norm(
    parameters: Sequence[nn.Parameter], max_norm: float, tables: Sequence[ItemTable] = ()
) -> Tensor:
    """`nn.utils.clip_grad_norm_`, counting the rows of item tables that other processes hold, and gradients
    by row (`ItemTable.row_gradient`). Collective.

    Not Fabric's, which waits for the device to see whether the norm is finite.

    Args:
        parameters: of this process; but for divided tables, all processes have the same gradients.
        max_norm: maximum norm of the gradient of all parameters together.
        tables: the item tables whose weights are among the parameters.

    Returns:
        The norm before clipping, a scalar, the same in all processes.
    """
    apart = {id(table.weight): table for table in tables if table.is_divided or table.row_gradients}
    if not apart:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    others = [parameter for parameter in parameters if id(parameter) not in apart]
    norm = nn.utils.get_total_norm([one.grad for one in others if one.grad is not None])
    squares, gradients = norm.square(), []
    for table in apart.values():
        gradient = table.weight.grad if table.row_gradients is None else table.row_gradient.values
        assert gradient is not None
        own = torch.linalg.vector_norm(gradient, dtype=norm.dtype)
        squares = squares + table.processes.all_reduce(own.square())
        gradients.append(gradient)
    total = squares.sqrt()
    nn.utils.clip_grads_with_norm_(others, max_norm, total)
    for gradient in gradients:
        gradient.mul_((max_norm / (total + _EPS)).clamp(max=1.0))
    return total
