"""Processes that talk through torch.distributed: gloo between hosts, NCCL between GPUs."""

from __future__ import annotations

import gc
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from models.distributed.processes import Processes, ReduceOp

T = TypeVar("T")

# Newer torch has other names for them.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}


class TorchProcesses(Processes):
    """The default process group of torch.distributed, with a gloo group beside it where that is NCCL's.

    Args:
        local_rank: rank among the processes of this machine.
        local_count: processes of this machine.
        host_group: the gloo group of all processes; None: the default group is one.
    """

    def __init__(self, local_rank: int, local_count: int, host_group: Any = None) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self._local_rank, self._local_count = local_rank, local_count
        self.host_group = host_group

    @property
    def local_rank(self) -> int:
        return self._local_rank

    @property
    def local_count(self) -> int:
        return self._local_count

    def all_gather_object(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.host_group)
        return values

    def broadcast_object(self, value: T) -> T:
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self.host_group)
        return values[0]

    def all_gather(self, tensor: Tensor) -> Tensor:
        gathered = tensor.new_empty(self.count, *tensor.shape)
        _all_gather(gathered.flatten(), tensor.flatten(), group=self._group_of(tensor))
        return gathered

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        summed = tensor.new_empty(tensor.shape[1:])
        _reduce_scatter(summed.flatten(), tensor.flatten(), group=self._group_of(tensor))
        return summed

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        reduced = tensor.detach().clone()
        dist.all_reduce(reduced, _OPS[op], group=self._group_of(tensor))
        return reduced

    def close(self) -> None:
        """Leave the others; none of them can be talked to any more."""
        # A DistributedDataParallel module that is still alive can keep the group from ending.
        gc.collect()
        dist.destroy_process_group()

    def _group_of(self, tensor: Tensor) -> Any:
        return self.host_group if tensor.device.type == "cpu" else None
