"""Attention in a graph that is exported: plain operations alone, and no length that only one batch has.

An exported graph holds for batches of any size, and runs where none of our kernels is. So this is dense
attention, quadratic in the longest sequence, of whatever lengths the graph's tensors say.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.attention.padded import to_flat, to_rows


def run(inputs: AttentionInputs) -> Tensor:
    """[tokens, heads, v_dim]; see `models.attention.dispatch.attention`."""
    precision = torch.promote_types(inputs.q.dtype, torch.float32)
    sequences = inputs.sequences
    # [sequences, heads, length, dim]
    q, k, v = (to_rows(t, sequences).transpose(1, 2).to(precision) for t in (inputs.q, inputs.k, inputs.v))
    scores = q @ k.transpose(2, 3) * inputs.qk_scale
    if inputs.bias is not None:
        scores = scores + inputs.bias.materialize(sequences, inputs.mask).to(precision)
    visible = inputs.mask.materialize(sequences)[:, None]
    if inputs.activation == "softmax":
        scores = scores.masked_fill(~visible, torch.finfo(precision).min).softmax(dim=-1)
    elif inputs.activation == "silu":
        scores = F.silu(scores)
    out = scores.masked_fill(~visible, 0.0) @ v * inputs.output_scale
    return to_flat(out.transpose(1, 2), sequences).to(inputs.v.dtype)
