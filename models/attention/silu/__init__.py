"""HSTU's pointwise attention on the GPU, with the relative bias computed inside the kernel."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from models.attention.inputs import AttentionInputs

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 256
_MAX_TILES = 65_535  # along the second axis of a grid
MAX_CONTEXT = 32
"""Tokens of a context: they must fit into one tile."""
_INSTALLED = importlib.util.find_spec("triton") is not None


def unavailable() -> list[str]:
    """Why the kernel cannot run on this machine."""
    reasons = []
    if not _INSTALLED:
        reasons.append("triton is not installed")
    compiling = torch.compiler.is_compiling()
    available = torch.cuda.is_available() if compiling else _cuda()
    if not available and not interpreted():
        reasons.append("no CUDA device")
    if available and not compiling and not _builds():
        reasons.append("no C compiler, or no Python.h, with which Triton builds the start of a kernel")
    return reasons


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = []
    if inputs.activation == "softmax":
        reasons.append("silu and identity, not softmax")
    q, k, v = inputs.q, inputs.k, inputs.v
    if not q.is_cuda and not (interpreted() and q.device.type == "cpu"):
        reasons.append(f"CUDA only, not {q.device.type}")
    if q.dtype not in _DTYPES or not q.dtype == k.dtype == v.dtype:
        reasons.append(f"q, k and v must all be float32, float16 or bfloat16, not {q.dtype}")
    if max(q.shape[2], v.shape[2]) > _MAX_DIM:
        reasons.append(f"head dimensions up to {_MAX_DIM}")
    if inputs.queries is not None and inputs.unread:
        reasons += inputs.unread
    tile = 32 if q.dtype == torch.float32 else 64
    if len(inputs.sequences.offsets) + k.shape[0] // tile > _MAX_TILES:
        reasons.append(f"batches of up to {_MAX_TILES:,} tiles of {tile} tokens")
    if inputs.mask.context > MAX_CONTEXT:
        reasons.append(f"contexts of up to {MAX_CONTEXT} tokens")
    for table in inputs.bias.tensors() if inputs.bias else ():
        if table is not None and table.dtype != torch.float32:
            reasons.append(f"the tables of a bias must be float32, not {table.dtype}")
    if torch.compiler.is_compiling() and inputs.queries is not None:
        reasons.append("not while compiling where queries are only last tokens")
    return reasons


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and all parts of the bias."""
    # Not at the top of the file: without a GPU there need be no triton.
    from models.attention.silu.operator import run as run_kernels

    return run_kernels(inputs)


@functools.cache
def _cuda() -> bool:
    """Asked once: the question takes longer than a small kernel."""
    return torch.cuda.is_available()


def interpreted() -> bool:
    """Whether kernels run on the CPU, statement by statement: for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def runs_on(tensor: Tensor) -> bool:
    """Whether Triton's kernels take tensors where this one is."""
    return _runs_on_gpu(tensor.device) if tensor.is_cuda else interpreted() and not unavailable()


@functools.cache
def _runs_on_gpu(device: torch.device) -> bool:
    """Whether there is all that Triton needs, and the GPU is of a generation that it compiles for.

    Asked once: small kernels ask at each call.
    """
    return not unavailable() and torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def _builds() -> bool:
    """Whether there is what Triton builds the start of a kernel with: not all machines have it."""
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return header.exists() and any(shutil.which(name) for name in compilers)
