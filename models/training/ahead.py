"""What a training waits for the compiler for, compiled by other processes while this one imports torch."""

from __future__ import annotations

import os
from pathlib import Path

from behavior.runtime.ahead import compile_elsewhere
from behavior.runtime.cores import usable_cores
from models.attention.loops import backward, forward
from models.attention.loops.ahead import __name__ as attention
from models.data.ahead import LOOPS
from models.data.ahead import __name__ as loading
from models.gpu.config import DeviceName

_CARDS = Path("/dev/nvidiactl")
"""Where the driver of a GPU is found, before torch is there to be asked."""


def compile_ahead(device: DeviceName) -> None:
    """Begin with what is not compiled yet: attention on a CPU, and the loops that make batches.

    On a single core there is nobody to compile beside; on two, two processes are enough.
    """
    cores = usable_cores()
    if cores < 2:
        return
    on_gpu = device == "cuda" or (device == "auto" and _has_card())
    if not on_gpu:
        compile_elsewhere(f"{attention}:compile_forward", [forward])
    if on_gpu or cores > 2:
        compile_elsewhere(f"{loading}:compile_loading", LOOPS)
    if not on_gpu:
        compile_elsewhere(f"{attention}:compile_backward", [backward])


def _has_card() -> bool:
    return _CARDS.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
