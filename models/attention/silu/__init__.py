"""HSTU's pointwise attention by Triton kernels, with the relative bias computed inside (arXiv 2402.17152).

Host: `attention_function` (autograd, and the operator for torch.compile), `attention_call` (what is to be
computed), `specialization` (compiled kernels and their constants), `launch`, `wide` (what wide heads have in
memory), `precompile`, `tiles`, `times`, `tuning`.
Kernels: `forward`, `key_gradients`, `query_gradients`, of wide heads `kept_scores` and `written_bias`; what
they share: `prologue`, `loops`, `simple_tiles`, `masking`, `tile_bias`, and below these `tile_io`,
`activation`, `mma_loads` and others. Gradients of tables: `table_gradient`, `time_gradient`, and sums in
shared memory, `shared_sums` and `shared_window`.
docs/attention-kernels.md says how all that works. Triton is imported by whoever runs the kernels, not by this
module.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.gpu.availability import unavailable
from models.gpu.interpreter import interpreted

__all__ = ["reasons_against", "run", "unavailable"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 256
_MAX_TILES = 65_535  # along the second axis of a grid
MAX_CONTEXT = 32
"""Tokens of a context: they must fit into one tile."""


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = inputs.of_several
    if inputs.activation == "softmax":
        reasons.append("silu and identity, not softmax")
    q, k, v = inputs.q, inputs.k, inputs.v
    if not q.is_cuda and not (interpreted() and q.device.type == "cpu"):
        reasons.append(f"CUDA only, not {q.device.type}")
    if q.dtype not in _DTYPES or not q.dtype == k.dtype == v.dtype:
        reasons.append(f"q, k and v must all be float32, float16 or bfloat16, not {q.dtype}")
    if max(q.shape[2], v.shape[2]) > _MAX_DIM:
        reasons.append(f"head dimensions up to {_MAX_DIM}")
    if inputs.queries is not None and (inputs.queries.room is None) != (inputs.sequences.room is None):
        reasons.append("lengths of queries and of all tokens are to be known alike, to the host or not")
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
    from models.attention.silu.attention_function import run as run_kernels

    return run_kernels(inputs)
