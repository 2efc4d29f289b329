"""Attention whose keys and values lie in the pages of a cache, read there by Triton kernels.

`paging` says where tokens are, `launching` writes new ones and computes (`seconds`, `appending`, `forward`,
`scores` and `combining` are its kernels), `tuning` how work is cut. Triton is imported by whoever runs the
kernels, not by this module.
"""

from __future__ import annotations

import os

import torch

from models.attention.dispatch import ENVIRONMENT_VARIABLE
from models.gpu.availability import unavailable
from models.gpu.interpreter import interpreted

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 256


def reasons_against(device: torch.device, dtype: torch.dtype, dim: int, kernel: str | None) -> list[str]:
    """Why keys and values are to be gathered out of their pages instead.

    Args:
        device: of the pages.
        dtype: of token vectors.
        dim: largest width of a head.
        kernel: of attention, that is asked for by name.
    """
    reasons = unavailable()
    if device.type != "cuda" and not (interpreted() and device.type == "cpu"):
        reasons.append(f"CUDA only, not {device.type}")
    if dtype not in _DTYPES:
        reasons.append(f"float32, float16 or bfloat16, not {dtype}")
    if dim > _MAX_DIM:
        reasons.append(f"head dimensions up to {_MAX_DIM}")
    name = kernel or os.environ.get(ENVIRONMENT_VARIABLE)
    if name not in (None, "triton"):
        reasons.append(f"the attention kernel '{name}' is asked for")
    return reasons
