"""Lightning Fabric on one device, or on one of several that train together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from inspect import signature

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.plugins.precision import MixedPrecision, Precision
from lightning.fabric.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.fabric.utilities.rank_zero import rank_zero_module
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from models.distributed.processes import Processes
from models.gpu.device import pick_device
from models.gpu.precision import mixed_precision, pick_precision
from models.training.config import TrainConfig


def make_fabric(config: TrainConfig, processes: Processes, *, averages: bool = True) -> Fabric:
    """Fabric for this process.

    Args:
        config: settings of the training.
        processes: all of them.
        averages: whether Fabric averages gradients over several processes (DDP).
    """
    device = pick_device(config.device)
    # Its hints on precision are for programs that do not choose one.
    rank_zero_module.log.setLevel(logging.WARNING)
    mixed = pick_precision(config.precision, device) == "bf16-mixed"
    precision = _MixedPrecision(device.type) if mixed else Precision()
    # Fabric looks for no other environment then: where mpi4py is installed it would start MPI to find out.
    met = _Joined(processes)
    if processes.count == 1:
        return Fabric(accelerator=device.type, devices=1, plugins=[precision, met])
    if not averages:
        own = device
        if device.type == "cuda":
            own = torch.device("cuda", processes.local_rank)
            torch.cuda.set_device(own)
        return Fabric(
            accelerator=device.type,
            devices=1,
            strategy=SingleDeviceStrategy(own),
            plugins=[precision, met],
        )
    # Buffers are tables of the catalog, alike everywhere and never written to. Newer torch has another name.
    newer = "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
    unchanged = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    strategy = DDPStrategy(cluster_environment=met, gradient_as_bucket_view=True, **unchanged)
    fabric = Fabric(
        accelerator=device.type,
        devices=processes.local_count,
        num_nodes=processes.count // processes.local_count,
        strategy=strategy,
        plugins=precision,
    )
    fabric.launch()
    return fabric


def keep_out_of_averaging(module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """Have DistributedDataParallel leave alone parameters that differ from process to process.

    Args:
        module: not set up by Fabric yet.
        parameters: some of its own.
    """
    kept = set(map(id, parameters))
    names = [name for name, parameter in module.named_parameters() if id(parameter) in kept]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


class _MixedPrecision(MixedPrecision):
    """Runs the forward pass in `models.gpu.precision.mixed_precision`."""

    def __init__(self, device_type: str) -> None:
        super().__init__("bf16-mixed", device_type)

    def forward_context(self) -> AbstractContextManager[None]:
        return mixed_precision(self.device)


class _Joined(ClusterEnvironment):
    """Processes that have met already."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return ""

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.processes.count

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.processes.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.processes.local_rank

    def node_rank(self) -> int:
        return self.processes.rank // self.processes.local_count
