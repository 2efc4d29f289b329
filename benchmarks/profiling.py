"""What the time on a GPU goes into, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch


class KernelTime(NamedTuple):
    """One kernel's share of a call."""

    name: str
    ms: float
    """Milliseconds of all its runs in a call, a mean."""
    times: float
    """Runs in a call."""


def kernel_times(call: Callable[[], object], calls: int, before: int) -> list[KernelTime]:
    """Of all kernels that a call runs, those that take longest first.

    Args:
        call: starts work on the GPU.
        calls: how many are measured.
        before: how many come before these, to warm up.
    """
    for _ in range(before):
        call()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    kernels = [
        KernelTime(event.key, event.self_device_time_total / 1e3 / calls, event.count / calls)
        for event in found.key_averages()
    ]
    return sorted(kernels, key=lambda kernel: -kernel.ms)
