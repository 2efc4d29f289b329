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
    queries = None if inputs.queries is None else Sequences.from_offsets(inputs.queries.offsets)
    asking, known = (queries or sequences).num_tokens, sequences.num_tokens
    bias = inputs.bias
    if bias is not None and bias.relative_time is not None:
        times = bias.relative_time
        times = RelativeTime(times.query_time[:asking], times.timestamp[:known], sequences, queries)
        bias = replace(bias, relative_time=times)
    out = reference.run(
        replace(
            inputs,
            q=inputs.q[:asking],
            k=inputs.k[:known],
            v=inputs.v[:known],
            sequences=sequences,
            queries=queries,
            bias=bias,
        )
    )
    return F.pad(out, (0, 0, 0, 0, 0, len(inputs.q) - asking))


KERNELS_AND_READING = (*KERNELS, Kernel("reading", list, lambda _: [], run))
"""Where lengths are known, others come first."""
