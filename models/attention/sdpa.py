"""Softmax attention by torch's scaled_dot_product_attention on padded batches.

For batches without much padding, and where xformers is missing.

Which of torch's kernels runs is torch's choice: flash or cuDNN for causal masks, the memory-efficient one
with a bias, plain products in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.attention.padded import pad_heads, score_bias, softmax_reasons, to_flat, to_rows

MOST_PADDING = 1.25
"""Padded tokens over tokens up to which torch's causal kernels are faster than packed ones, on an H100."""
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def unavailable() -> list[str]:
    """It runs wherever torch does."""
    return []


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    return softmax_reasons(inputs, _DTYPES, "of one floating-point type")


def is_fastest(inputs: AttentionInputs) -> bool:
    """Whether it beats xformers where both can run: causal, in half precision, with little padding."""
    if inputs.activation != "softmax" or inputs.unread or reasons_against(inputs) or not _is_causal(inputs):
        return False
    half = inputs.q.is_cuda and inputs.q.dtype in (torch.float16, torch.bfloat16)
    sequences = inputs.sequences
    padded = sequences.num_sequences * sequences.max_length
    return half and padded <= MOST_PADDING * sequences.num_tokens


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and the bias."""
    queries = inputs.query_sequences
    q, k, v = pad_heads(inputs)
    q, k, v = to_rows(q, queries), to_rows(k, inputs.sequences), to_rows(v, inputs.sequences)
    causal = _is_causal(inputs)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=None if causal else score_bias(inputs),
        is_causal=causal,
        scale=inputs.qk_scale,
    )
    flat = to_flat(out.transpose(1, 2), queries)[:, :, : inputs.v.shape[2]]
    return flat if inputs.output_scale == 1.0 else flat * inputs.output_scale


def _is_causal(inputs: AttentionInputs) -> bool:
    """Whether no more is to be said than that: padding comes after every token that is not."""
    mask = inputs.mask
    unbounded = mask.window is None or mask.window >= inputs.sequences.max_length
    return inputs.bias is None and inputs.queries is None and mask.is_plain and unbounded
