"""Gradient clipping where a process has only a part of the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.distributed.sharding.table import ShardedEmbedding


def clip_gradients(
    parameters: Sequence[nn.Parameter], longest: float, table: ShardedEmbedding | None
) -> Tensor:
    """Shorten the gradient of all parameters together, where it is longer than `longest`.

    Not Fabric's, which waits for the device to see whether the norm is finite.

    Args:
        parameters: of this process; but for the table's, all processes have the same gradients.
        longest: norm.
        table: one whose rows are divided among processes, each of which counts; all take part then.

    Returns:
        The norm before, a scalar, the same in all processes.
    """
    if table is None:
        return nn.utils.clip_grad_norm_(parameters, longest)
    alike = [parameter.grad for parameter in parameters if parameter is not table.weight]
    norm = nn.utils.get_total_norm([gradient for gradient in alike if gradient is not None])
    assert table.weight.grad is not None
    own = torch.linalg.vector_norm(table.weight.grad, dtype=norm.dtype)
    total = (norm.square() + table.processes.all_reduce(own.square())).sqrt()
    nn.utils.clip_grads_with_norm_(parameters, longest, total)
    return total
