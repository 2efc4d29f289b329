"""Whether Triton kernels can run on this machine and on a tensor's device, and a switch that turns them
off."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch import Tensor

from models.gpu.interpreter import interpreted

MIN_CAPABILITY = (8, 0)
"""Compute capability from which on kernels are compiled."""
_INSTALLED = importlib.util.find_spec("triton") is not None
_turned_off: ContextVar[bool] = ContextVar("turned_off", default=False)


@contextmanager
def without_kernels() -> Iterator[None]:
    """In here, layers and losses use torch's own operations where they could use kernels of ours.

    For this thread and what it awaits only. Attention chooses its kernel by `models.attention.attention`'s
    argument, and does not look at this.
    """
    token = _turned_off.set(True)
    try:
        yield
    finally:
        _turned_off.reset(token)


def unavailable() -> list[str]:
    """Why Triton kernels cannot run on this machine; empty where they can."""
    reasons = []
    if not _INSTALLED:
        reasons.append("triton is not installed")
    compiling = torch.compiler.is_compiling()
    available = torch.cuda.is_available() if compiling else _has_cuda()
    if not available and not interpreted():
        reasons.append("no CUDA device")
    if available and not compiling and not _has_compiler():
        reasons.append("no C compiler, or no Python.h, with which Triton builds its launchers")
    return reasons


def runs_on(tensor: Tensor) -> bool:
    """Whether kernels take tensors of this tensor's device, and are not turned off."""
    if _turned_off.get():
        return False
    return _runs_on_gpu(tensor.device) if tensor.is_cuda else interpreted() and not unavailable()


@functools.cache
def _has_cuda() -> bool:
    """Cached: the question takes longer than a small kernel."""
    return torch.cuda.is_available()


@functools.cache
def _runs_on_gpu(device: torch.device) -> bool:
    """Cached: small kernels ask at each call."""
    return not unavailable() and torch.cuda.get_device_capability(device) >= MIN_CAPABILITY


@functools.cache
def _has_compiler() -> bool:
    """Whether there is what Triton compiles the host side of a launch with."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return header.exists() and any(shutil.which(name) for name in compilers)
