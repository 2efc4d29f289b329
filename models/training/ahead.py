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
_FOR_BOTH = 4
"""Cores from which on forward and backward are compiled apart."""


def compile_ahead(device: DeviceName) -> None:
    """Begin with what is not compiled yet: attention on a CPU, and the loops that make batches.

    Forward and backward have parts in common: together they take less time of a core, apart they are there
    sooner where cores are free. On a single core nothing goes on beside, but attention is compiled by another
    process all the same: its code from disk and code that was just compiled may differ in the last bit, so
    that the first training would have other losses than the next.
    """
    cores = usable_cores()
    if cores > 1:
        compile_elsewhere(f"{loading}:compile_loading", LOOPS)
    if device == "cuda" or (device == "auto" and _has_card()):
        return
    if cores < _FOR_BOTH:
        compile_elsewhere(f"{attention}:compile_both", [forward, backward])
        return
    compile_elsewhere(f"{attention}:compile_forward", [forward])
    compile_elsewhere(f"{attention}:compile_backward", [backward])


def _has_card() -> bool:
    return _CARDS.exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
