"""Attention for sequences whose lengths are on the device only, on the CPU, where they can be read back."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from models.attention import RelativeTime, Sequences, reference
from models.attention.dispatch import KERNELS, Kernel
from models.attention.inputs import AttentionInputs


def run(inputs: AttentionInputs) -> Tensor:
    """The dense reference over the tokens that belong to a sequence; zeros for all others."""
    sequences = Sequences.from_offsets(inputs.sequences.offsets)
    known, rest = sequences.num_tokens, inputs.sequences.num_tokens - sequences.num_tokens
    bias = inputs.bias
    if bias is not None and bias.relative_time is not None:
        times = bias.relative_time
        bias = replace(
            bias, relative_time=RelativeTime(times.query_time[:known], times.timestamp[:known], sequences)
        )
    q, k, v = (tensor[:known] for tensor in (inputs.q, inputs.k, inputs.v))
    out = reference.run(replace(inputs, q=q, k=k, v=v, sequences=sequences, bias=bias))
    return F.pad(out, (0, 0, 0, 0, 0, rest))


KERNELS_AND_READING = (*KERNELS, Kernel("reading", list, lambda _: [], run))
"""Where lengths are known, others come first."""
