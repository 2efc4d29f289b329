"""The oracle: dense attention in plain torch, on any device, quadratic in the longest sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import AttentionInputs


def unavailable() -> list[str]:
    """It runs wherever torch does."""
    return []


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """It fits every input."""
    return []


def run(inputs: AttentionInputs) -> Tensor:
    """Pad every sequence to the longest, build all scores, mask, multiply; float32 or better inside."""
    precision = torch.promote_types(inputs.q.dtype, torch.float32)
    index, present = inputs.sequences.padded_index()
    # [sequences, length, heads, dim]
    q, k, v = (tensor[index].to(precision) for tensor in (inputs.q, inputs.k, inputs.v))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * inputs.qk_scale
    if inputs.bias is not None:
        scores = scores + inputs.bias.materialize(inputs.sequences)[:, None].to(precision)
    visible = inputs.mask.materialize(inputs.sequences)[:, None]  # [sequences, 1, length, length]
    if inputs.activation == "silu":
        weights = F.silu(scores).masked_fill(~visible, 0.0)
    else:
        # The lowest finite score instead of minus infinity: rows that see nothing (padding) stay finite.
        hidden = torch.finfo(precision).min
        weights = torch.softmax(scores.masked_fill(~visible, hidden), dim=-1).masked_fill(~visible, 0.0)
    padded = torch.einsum("bhij,bjhd->bihd", weights, v) * inputs.output_scale
    return padded[present].to(inputs.v.dtype)
