"""Memory of models that are no longer needed."""

from __future__ import annotations

import gc

import torch


def free_memory() -> None:
    """Give back what ended trainings of this process still hold on the GPU, for others on it to use.

    The captured steps of a training refer to it and it to them: without a collection their graphs keep their
    memory until Python happens to collect, while the next model of the process, or another process, needs it.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
