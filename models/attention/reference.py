"""The oracle: dense attention in plain torch, on any device, quadratic in the longest sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import Activation, AttentionInputs


def unavailable() -> list[str]:
    """It runs wherever torch does."""
    return []


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """It fits every input whose lengths are known."""
    return inputs.unread


def run(inputs: AttentionInputs) -> Tensor:
    """Pad every sequence to the longest, build all scores, mask, multiply; float32 or better inside."""
    precision = torch.promote_types(inputs.q.dtype, torch.float32)
    index, _ = inputs.sequences.padded_index()
    query_index, asked = inputs.query_sequences.padded_index()
    # [sequences, length, heads, dim]
    q, k, v = inputs.q[query_index].to(precision), *(t[index].to(precision) for t in (inputs.k, inputs.v))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * inputs.qk_scale
    if inputs.bias is not None:
        bias = inputs.bias.materialize(inputs.sequences, inputs.mask, inputs.queries)
        scores = scores + bias.to(precision)
    visible = inputs.mask.materialize(inputs.sequences, inputs.queries)[:, None]
    weights = _activate(scores, visible, inputs.activation)
    padded = torch.einsum("bhij,bjhd->bihd", weights, v) * inputs.output_scale
    return padded[asked].to(inputs.v.dtype)


def _activate(scores: Tensor, visible: Tensor, activation: Activation) -> Tensor:
    if activation == "softmax":
        # The lowest finite score instead of minus infinity: rows that see nothing (padding) stay finite.
        scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(dim=-1)
    elif activation == "silu":
        scores = F.silu(scores)
    return scores.masked_fill(~visible, 0.0)
