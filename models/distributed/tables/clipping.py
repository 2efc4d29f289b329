"""Gradient clipping where a process has only a part of the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.distributed.tables.table import ItemTable


def clip_grad_norm(
    parameters: Sequence[nn.Parameter], max_norm: float, tables: Sequence[ItemTable] = ()
) -> Tensor:
    """`nn.utils.clip_grad_norm_`, counting the rows of item tables that other processes hold. Collective.

    Not Fabric's, which waits for the device to see whether the norm is finite.

    Args:
        parameters: of this process; but for divided tables, all processes have the same gradients.
        max_norm: maximum norm of the gradient of all parameters together.
        tables: the item tables whose weights are among the parameters.

    Returns:
        The norm before clipping, a scalar, the same in all processes.
    """
    divided = {id(table.weight): table for table in tables if table.is_divided}
    if not divided:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    alike = [parameter.grad for parameter in parameters if id(parameter) not in divided]
    norm = nn.utils.get_total_norm([gradient for gradient in alike if gradient is not None])
    squares = norm.square()
    for table in divided.values():
        assert table.weight.grad is not None
        own = torch.linalg.vector_norm(table.weight.grad, dtype=norm.dtype)
        squares = squares + table.processes.all_reduce(own.square())
    total = squares.sqrt()
    nn.utils.clip_grads_with_norm_(parameters, max_norm, total)
    return total
