"""Flat tokens as rows of equal length, and bias and mask as one tensor: for kernels that know neither.

Nothing here waits for the device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.attention.sequences import Sequences
from models.attention.weak_cache import weakly_cached

ALIGNMENT = 8
"""Kernels on CUDA want head dimensions and strides in multiples of this."""


def softmax_reasons(inputs: AttentionInputs, dtypes: tuple[torch.dtype, ...], named: str) -> list[str]:
    """Why no kernel for softmax with queries, keys and values of certain types fits an input.

    Args:
        inputs: of attention.
        dtypes: the types that fit, all three alike.
        named: what they are, for the reason.
    """
    reasons = []
    if inputs.activation != "softmax":
        reasons.append(f"softmax only, not {inputs.activation}")
    found = {tensor.dtype for tensor in (inputs.q, inputs.k, inputs.v)}
    if len(found) > 1 or inputs.q.dtype not in dtypes:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        reasons.append(f"q, k and v must all be {named}, not {names}")
    if inputs.q.shape[0] == 0:
        reasons.append("there are no queries")
    return reasons


def pad_heads(inputs: AttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v with one head dimension for all, a multiple of `ALIGNMENT`, laid out as kernels demand.

    Added zeros change no dot product, and of the result the first v_dim numbers are taken.
    """
    dim = max(inputs.q.shape[2], inputs.v.shape[2])
    dim += -dim % ALIGNMENT
    q, k, v = (_pad_head(tensor, dim) for tensor in (inputs.q, inputs.k, inputs.v))
    return q, k, v


def _pad_head(tensor: Tensor, dim: int) -> Tensor:
    if tensor.shape[2] < dim:
        return F.pad(tensor, (0, dim - tensor.shape[2]))
    steps = (*tensor.stride()[:2], tensor.storage_offset())
    aligned = tensor.stride(2) == 1 and all(step % ALIGNMENT == 0 for step in steps)
    return tensor if aligned else tensor.clone(memory_format=torch.contiguous_format)


def to_rows(flat: Tensor, sequences: Sequences) -> Tensor:
    """[sequences, max_length, ...] of [tokens, ...]; zeros where there is no token."""
    shape = (sequences.num_sequences, sequences.max_length)
    size = shape[0] * shape[1]
    if sequences.room is None and sequences.num_tokens == size:
        return flat.unflatten(0, shape)
    # Not by indices into `flat`: their gradient would add up all the padding into one token.
    rows = flat.new_zeros(size + (sequences.room is not None), *flat.shape[1:])
    return rows.index_copy(0, _places_in_rows(sequences), flat)[:size].unflatten(0, shape)


def to_flat(rows: Tensor, sequences: Sequences) -> Tensor:
    """[tokens, ...] of [sequences, max_length, ...]: the inverse."""
    flat = rows.flatten(0, 1)
    if sequences.room is None:
        all_are_tokens = sequences.num_tokens == flat.shape[0]
        return flat if all_are_tokens else flat.index_select(0, _places_in_rows(sequences))
    place = _places_in_rows(sequences)
    strays = (place == flat.shape[0]).view(-1, *[1] * (flat.ndim - 1))
    return flat.index_select(0, place.clamp(max=flat.shape[0] - 1)).masked_fill(strays, 0.0)


@weakly_cached
def _places_in_rows(sequences: Sequences) -> Tensor:
    """[tokens] int64: where each token goes in [sequences * max_length] rows; found once for all layers.

    Tokens that belong to no sequence go to one place behind all rows.
    """
    offsets = sequences.offsets
    token = torch.arange(sequences.num_tokens, device=offsets.device)
    row = torch.searchsorted(offsets[1:], token, right=True)
    behind = sequences.num_sequences * sequences.max_length
    return (row * sequences.max_length + token - offsets[row]).clamp(max=behind)


def score_bias(inputs: AttentionInputs) -> Tensor:
    """[sequences, heads, queries, max_length], of q's type: what is added to the scores, mask included.

    Differentiable with respect to the tables of the bias. Memory is shared between heads if the bias is, and
    strides are multiples of `ALIGNMENT`.
    """
    visible = inputs.mask.materialize(inputs.sequences, inputs.queries)[:, None]
    dtype = inputs.q.dtype
    # Neither infinite, since rows of padding see nothing and must stay finite, nor so low that a kernel's
    # change to base 2 overflows.
    hidden = torch.finfo(dtype).min / 2
    if inputs.bias is None:
        total = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, hidden)
    else:
        total = inputs.bias.materialize(inputs.sequences, inputs.mask, inputs.queries)
        total = total.to(dtype).masked_fill(~visible, hidden)
    missing = -total.shape[-1] % ALIGNMENT
    if missing:
        total = F.pad(total, (0, missing))[..., :-missing]
    return total.expand(-1, inputs.q.shape[1], -1, -1)
