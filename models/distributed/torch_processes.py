"""Processes that talk through torch.distributed: gloo between hosts, NCCL between GPUs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from models.distributed.processes import Processes, ReduceOp

T = TypeVar("T")

# Newer torch has other names for them.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
_OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX}
# Values of a tensor from which on it is sent by itself; smaller ones are sent together, since to copy so many
# takes less time than to begin to send.
_LARGE = 1 << 22


class TorchProcesses(Processes):
    """The default process group of torch.distributed, with a gloo group beside it where that is NCCL's.

    `stuck`: whether a group of this Python was left while a GPU may wait in it. Python might then wait for
    the GPU at its end, and there can be no other group.

    Args:
        local_rank: rank among the processes of this machine.
        local_count: processes of this machine.
        host_group: the gloo group of all processes; None: the default group is one.
    """

    stuck: ClassVar[bool] = False

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

    def all_gather_made(self, like: Tensor, shape: Sequence[int], make: Callable[[Tensor], object]) -> Tensor:
        """See `Processes.all_gather_made`. NCCL sends from where it receives; gloo does not."""
        if not like.is_cuda:
            return super().all_gather_made(like, shape, make)
        gathered = like.new_empty(self.count, *shape)
        own = gathered[self.rank]
        make(own)
        _all_gather(gathered.flatten(), own.flatten(), group=self._group_of(like))
        return gathered

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        summed = tensor.new_empty(tensor.shape[1:])
        _reduce_scatter(summed.flatten(), tensor.flatten(), group=self._group_of(tensor))
        return summed

    def all_reduce(self, tensor: Tensor, op: ReduceOp = "sum") -> Tensor:
        reduced = tensor.detach().clone()
        dist.all_reduce(reduced, _OPS[op], group=self._group_of(tensor))
        return reduced

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """See `Processes.average`. Small tensors are sent as one."""
        alone = [one for one in tensors if one.numel() >= _LARGE and one.is_contiguous()]
        others: dict[torch.dtype, list[Tensor]] = {}
        for one in tensors:
            if one.numel() < _LARGE or not one.is_contiguous():
                others.setdefault(one.dtype, []).append(one)
        for one in alone:
            self._average(one)
        for together in others.values():
            joined = torch.cat([one.flatten() for one in together])
            self._average(joined)
            parts = joined.split([one.numel() for one in together])
            torch._foreach_copy_(
                together, [part.view_as(one) for one, part in zip(together, parts, strict=True)]
            )

    def broadcast(self, tensor: Tensor) -> None:
        dist.broadcast(tensor.detach(), src=0, group=self._group_of(tensor))

    def close(self) -> None:
        """Leave the others, who all do so; none of them can be talked to any more."""
        # A DistributedDataParallel module that is still alive can keep the group from ending.
        gc.collect()
        dist.destroy_process_group()

    def leave(self) -> None:
        """Leave others who may be gone, and with whom a GPU may still be at something.

        Nothing of NCCL is called: it could wait for them, or end this process before it has told why. `stuck`
        says that the group is left as it is.
        """
        if self.host_group is None:
            self.close()
        else:
            TorchProcesses.stuck = True

    def _average(self, tensor: Tensor) -> None:
        group = self._group_of(tensor)
        if tensor.is_cuda:
            dist.all_reduce(tensor, dist.ReduceOp.AVG, group=group)
        else:  # gloo has no averages
            dist.all_reduce(tensor, group=group)
            tensor /= self.count

    def _group_of(self, tensor: Tensor) -> Any:
        return self.host_group if tensor.device.type == "cpu" else None


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    texts = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "was aborted")
    return any(text in str(error) for text in texts)
