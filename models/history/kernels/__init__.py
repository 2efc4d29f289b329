"""Kernels of history masses on the GPU: never more than a tile of pairs of events at once.

`masses_function` is the differentiable function, `forward`, `query_gradients` and `key_gradients` are the
kernels; what they do with a tile of pairs is in `pairs`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpu.availability import runs_on, unavailable
from models.history.inputs import HistoryInputs

__all__ = ["reasons_against", "run", "unavailable"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 256
_MAX_BEHAVIORS = 63


def reasons_against(inputs: HistoryInputs) -> list[str]:
    """Why they do not fit an input."""
    reasons = []
    if not runs_on(inputs.columns.item):
        reasons.append(f"CUDA only, not {inputs.device.type}, and not while kernels are turned off")
    if inputs.query is not None and inputs.key is not None:
        dtype = inputs.query.dtype
        if dtype not in _DTYPES or dtype != inputs.key.dtype:
            reasons.append(
                f"queries and keys must both be float32, float16 or bfloat16, not {dtype}, {inputs.key.dtype}"
            )
        if inputs.query.shape[1] > _MAX_DIM:
            reasons.append(f"queries of up to {_MAX_DIM} numbers")
    bias = inputs.bias
    by_behavior = [table for table in (bias.behavior, bias.latest, bias.closed) if table is not None]
    others = [table for table in (bias.constant, bias.time, bias.recency) if table is not None]
    if any(table.dtype != torch.float32 for table in by_behavior + others):
        reasons.append("tables must be float32")
    if any(len(table) > _MAX_BEHAVIORS + 1 for table in by_behavior):
        reasons.append(f"up to {_MAX_BEHAVIORS} behaviors")
    if torch.compiler.is_compiling():
        reasons.append("not while compiling")
    return reasons


def run(inputs: HistoryInputs) -> tuple[Tensor, Tensor]:
    """See `models.history.dispatch.history_masses`."""
    # Not at the top of the file: without a GPU there need be no triton.
    from models.history.kernels.masses_function import run as run_kernels

    return run_kernels(inputs)
