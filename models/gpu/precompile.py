"""Compile kernels side by side before they are launched.

As they come they would compile one after the other, those of backward only once forward has run. Most of the
work is done without Python's lock, by Triton's passes, LLVM, the assembler, and a C compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from behavior.runtime.cores import usable_cores
from models.gpu import fast_launch
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import deferred_launches

_AT_ONCE = 8
"""Kernels that are compiled at a time."""
_LARGE = 3
"""So many of them are large."""
_HEAD_START = 0.5
"""Seconds, about, that reading a large kernel's code takes, which is done with Python's lock."""


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
    # Those with the most arguments have the most code and take longest. They begin, one after the other: read
    # at the same time, all would be read as late as the last.
    launches.sort(key=lambda one: -len(one.launcher.kernel.arg_names))
    with ThreadPoolExecutor(max_workers=min(usable_cores(), _AT_ONCE)) as threads:
        for number, one in enumerate(launches, 1):
            begun = threads.submit(one.compile)
            if number <= _LARGE:
                wait([begun], timeout=_HEAD_START)
