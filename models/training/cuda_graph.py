"""CUDA graphs of optimizer steps."""

from __future__ import annotations

import torch

from models.gpu import cuda_graph
from models.gpu.cuda_graph import Captured, Work
from models.optim import OptimizerSet

__all__ = ["Captured", "CudaGraphs", "Work"]


class CudaGraphs(cuda_graph.CudaGraphs):
    """As of `models.gpu.cuda_graph`, of work in which an optimizer takes steps.

    Args:
        device: a GPU.
        optimizer: takes steps within what is captured.
    """

    def __init__(self, device: torch.device, optimizer: OptimizerSet) -> None:
        super().__init__(device, optimizer.capturable)
