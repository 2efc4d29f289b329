"""Compile kernels side by side before they are launched.

As they come they would compile one after the other, those of backward only once forward has run. Most of the
work is done without Python's lock, by Triton's passes, LLVM, the assembler, and a C compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from behavior.runtime.cores import usable_cores
from models.gpu import fast_launch
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import deferred_launches


def can_precompile() -> bool:
    """Whether `precompile` does anything now: not interpreted, nor with untested versions of Triton, nor
    while a CUDA graph is captured."""
    return not INTERPRETED and fast_launch.is_tested() and not torch.cuda.is_current_stream_capturing()


def precompile(launch_all: Callable[[], object]) -> None:
    """Compile what `launch_all` launches, and load it; nothing runs on the device.

    What fails here is tried again, and fails again, when the kernel is to be launched.
    """
    with deferred_launches() as launches:
        launch_all()
    fast_launch.prepare_threads([one.launcher.kernel for one in launches])
    with ThreadPoolExecutor(max_workers=usable_cores()) as threads:
        for one in launches:
            threads.submit(one.compile)
