"""How processes that were started find each other: through `torchrun`, or through a store."""

from __future__ import annotations

import os
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from models.distributed.torch_processes import TorchProcesses

# Over the host: rank 0 writes checkpoints while the others wait for it.
HOST_TIMEOUT = timedelta(hours=24)
# A GPU does not notice that another process is gone: after this time NCCL ends the one that waits. Who may
# take longer is waited for over the host first.
NCCL_TIMEOUT = timedelta(minutes=10)


def launched_by_torchrun() -> bool:
    """Whether `torchrun`, or what sets the same variables, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first_process() -> bool:
    """Whether this process is the one that prints: the only one, or `torchrun`'s rank 0."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def join_torchrun(backend: str) -> TorchProcesses:
    """Join the processes that `torchrun` started."""
    dist.init_process_group(backend, init_method="env://", timeout=_timeout(backend))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_count = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    return _joined(local_rank, local_count, backend)


def join_store(store: Store, rank: int, count: int, backend: str) -> TorchProcesses:
    """Join `count` processes of this machine at a store."""
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_timeout(backend))
    return _joined(rank, count, backend)


def _timeout(backend: str) -> timedelta:
    return NCCL_TIMEOUT if backend == "nccl" else HOST_TIMEOUT


def _joined(local_rank: int, local_count: int, backend: str) -> TorchProcesses:
    host_group = None if backend == "gloo" else dist.new_group(backend="gloo", timeout=HOST_TIMEOUT)
    return TorchProcesses(local_rank, local_count, host_group)
