"""Softmax attention by xformers, on CUDA: the fast path of every softmax backbone without a bias."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.attention.masks import Causal, LocalWindow

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@functools.cache
def unavailable() -> list[str]:
    """Why xformers cannot run on this machine."""
    reasons = []
    if importlib.util.find_spec("xformers") is None:
        reasons.append("xformers is not installed (pip install 'lrm-kit[gpu]')")
    if not torch.cuda.is_available():
        reasons.append("no CUDA device")
    if not reasons:
        try:
            _load()
        except (ImportError, OSError) as error:
            reasons.append(f"xformers cannot be loaded: {error}")
    return reasons


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = []
    if inputs.activation != "softmax":
        reasons.append(f"softmax only, not {inputs.activation}")
    if inputs.bias is not None:
        reasons.append("takes either a block-diagonal mask or a bias, not both")
    if inputs.q.device.type != "cuda":
        reasons.append(f"CUDA only, not {inputs.q.device.type}")
    if inputs.q.dtype not in _DTYPES or len({inputs.q.dtype, inputs.k.dtype, inputs.v.dtype}) > 1:
        reasons.append(f"q, k and v must all be float32, float16 or bfloat16, not {inputs.q.dtype}")
    if not isinstance(inputs.mask, Causal | LocalWindow):
        reasons.append(f"no counterpart of the mask {type(inputs.mask).__name__}")
    if 0 in inputs.sequences.lengths:
        reasons.append("a sequence is empty")
    return reasons


def run(inputs: AttentionInputs) -> Tensor:
    """memory_efficient_attention with a block-diagonal causal mask over [1, tokens, heads, dim]."""
    fmha = _load()
    mask = fmha.attn_bias.BlockDiagonalCausalMask.from_seqlens(list(inputs.sequences.lengths))
    if inputs.mask.window is not None:
        mask = mask.make_local_attention(inputs.mask.window)
    # xformers' kernels want head dimensions in multiples of 8; zeros change no dot product.
    q, k, v = (F.pad(tensor, (0, -tensor.shape[2] % 8))[None] for tensor in (inputs.q, inputs.k, inputs.v))
    out = fmha.memory_efficient_attention(q, k, v, attn_bias=mask.to(q.device), scale=inputs.qk_scale)
    return out[0, :, :, : inputs.v.shape[2]] * inputs.output_scale


@functools.cache
def _load() -> Any:
    """Import xformers' attention; its PyPI build is linked to CUDA 12's runtime, torch's may be CUDA 13."""
    for folder in map(Path, sys.path):
        library = folder / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12"
        if library.exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
            break
    from xformers.ops import fmha

    return fmha
