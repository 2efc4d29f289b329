"""Processes that train together exchange tensors of their devices."""

from __future__ import annotations

from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from models.distributed.processes import Processes

T = TypeVar("T")

# Newer torch has other names for them.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class DeviceExchange:
    """A `models.distributed.sharding.Exchange` through NCCL between GPUs, through gloo between CPUs.

    Args:
        processes: they have met.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.rank, self.count = processes.rank, processes.count

    def longest(self, length: int) -> int:
        lengths = [0.0] * self.count
        lengths[self.rank] = length
        return int(max(self.processes.total(lengths)))

    def collect(self, value: T) -> list[T]:
        return self.processes.gather(value)

    def gather(self, own: Tensor) -> Tensor:
        gathered = own.new_empty(self.count, *own.shape)
        _all_gather(gathered.flatten(), own.flatten())
        return gathered

    def sum_to_each(self, parts: Tensor) -> Tensor:
        summed = parts.new_empty(parts.shape[1:])
        _reduce_scatter(summed.flatten(), parts.flatten())
        return summed

    def total(self, own: Tensor) -> Tensor:
        summed = own.clone()
        dist.all_reduce(summed)
        return summed

    def largest(self, own: Tensor) -> Tensor:
        found = own.clone()
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return found
