"""Softmax attention by xformers, on CUDA.

Without a bias, tokens stay packed and a block-diagonal mask says where sequences start: no padding, memory
linear in length. xformers takes such a mask or a tensor that is added to the scores, not both; so a bias, and
masks that xformers has no counterpart of, go the other way: sequences are padded to the longest, and bias and
mask become a tensor, quadratic in length.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from models.attention import xformers_library
from models.attention.inputs import AttentionInputs
from models.attention.padded import pad_heads, score_bias, softmax_reasons, to_flat, to_rows
from models.attention.sequences import Sequences
from models.attention.weak_cache import weakly_cached

MAX_BIAS_ELEMENTS = 1 << 30
"""Most numbers a bias tensor may hold over all heads; its gradient takes 2 GiB then in half precision."""
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_FLASH_DIM = 256
_FLASH_CAPABILITY = (8, 0)
_LAST_CUTLASS_CAPABILITY = (9, 0)


@functools.cache
def unavailable() -> list[str]:
    """Why xformers cannot run on this machine."""
    reasons = []
    if not xformers_library.is_installed():
        reasons.append(f"xformers is not installed ({xformers_library.INSTALL})")
    if not torch.cuda.is_available():
        reasons.append("no CUDA device")
    if not reasons:
        try:
            xformers_library.load()
        except (ImportError, OSError) as error:
            reasons.append(f"xformers cannot be loaded: {error}")
    return reasons


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = inputs.unread + softmax_reasons(inputs, _DTYPES, "float32, float16 or bfloat16")
    if inputs.q.device.type != "cuda":
        reasons.append(f"CUDA only, not {inputs.q.device.type}")
    if not reasons:
        reasons = _reasons_of_device(inputs) + _reasons_of_memory(inputs)
    return reasons


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and the bias."""
    out = _run_packed(inputs) if _stays_packed(inputs) else _run_padded(inputs)
    out = out[:, :, : inputs.v.shape[2]]
    return out if inputs.output_scale == 1.0 else out * inputs.output_scale


def _run_packed(inputs: AttentionInputs) -> Tensor:
    """Over [1, tokens, heads, dim], with a block-diagonal mask."""
    fmha = xformers_library.load()
    q, k, v = (tensor[None] for tensor in pad_heads(inputs))
    # With flash, xformers picks the newest that is installed.
    operators = None if _fits_flash(inputs) else (fmha.cutlass.FwOp, fmha.cutlass.BwOp)
    mask = _block_diagonal_mask(inputs)
    out: Tensor = fmha.memory_efficient_attention(
        q, k, v, attn_bias=mask, scale=inputs.qk_scale, op=operators
    )
    return out[0]


def _run_padded(inputs: AttentionInputs) -> Tensor:
    """Over [sequences, max_length, heads, dim], with bias and mask as a tensor."""
    fmha = xformers_library.load()
    q, k, v = pad_heads(inputs)
    q, k, v = to_rows(q, inputs.query_sequences), *(to_rows(t, inputs.sequences) for t in (k, v))
    bias = score_bias(inputs)
    if bias.requires_grad and not any(tensor.requires_grad for tensor in (q, k, v)):
        # xformers computes no gradient unless one of these needs one.
        q = q.detach().requires_grad_()
    operators = fmha.cutlass.FwOp, fmha.cutlass.BwOp
    out = fmha.memory_efficient_attention(q, k, v, attn_bias=bias, scale=inputs.qk_scale, op=operators)
    return to_flat(out, inputs.query_sequences)


def _block_diagonal_mask(inputs: AttentionInputs) -> Any:
    """xformers' mask, made once a batch and shared by all layers."""
    return _make_mask(inputs.sequences, inputs.query_sequences, _window(inputs))


@weakly_cached
def _make_mask(sequences: Sequences, queries: Sequences, window: int | None) -> Any:
    masks = xformers_library.load().attn_bias
    # Sequences without tokens are no blocks.
    lengths = [pair for pair in zip(queries.lengths, sequences.lengths, strict=True) if pair[1]]
    blocks = masks.BlockDiagonalMask.from_seqlens(
        [asking for asking, _ in lengths], [length for _, length in lengths], device=sequences.offsets.device
    )
    if queries is sequences:
        return blocks.make_causal() if window is None else blocks.make_local_attention(window)
    if window is None:
        return blocks.make_causal_from_bottomright()
    return blocks.make_local_attention_from_bottomright(window)


def _stays_packed(inputs: AttentionInputs) -> bool:
    """Whether a block-diagonal mask says everything."""
    if inputs.bias is not None or not inputs.mask.is_plain:
        return False
    # The other kernel has no backward pass for windows of queries that are only the last tokens.
    return inputs.queries is None or _window(inputs) is None or _fits_flash(inputs)


def _fits_flash(inputs: AttentionInputs) -> bool:
    """Whether FlashAttention takes it, if it stays packed; what it does not take, CUTLASS does."""
    return (
        inputs.q.dtype != torch.float32
        and max(inputs.q.shape[2], inputs.v.shape[2]) <= _MAX_FLASH_DIM
        and _capability(inputs.q.device) >= _FLASH_CAPABILITY
        # Its backward pass adds in any order.
        and not torch.are_deterministic_algorithms_enabled()
    )


def _window(inputs: AttentionInputs) -> int | None:
    """The window, unless all sequences are shorter."""
    window = inputs.mask.window
    return None if window is None or window >= inputs.sequences.max_length else window


def _reasons_of_device(inputs: AttentionInputs) -> list[str]:
    capability = _capability(inputs.q.device)
    name = ".".join(map(str, capability))
    if inputs.q.dtype == torch.bfloat16 and capability < _FLASH_CAPABILITY:
        return [f"bfloat16 needs compute capability 8.0, and the device has {name}"]
    if capability > _LAST_CUTLASS_CAPABILITY and not (_stays_packed(inputs) and _fits_flash(inputs)):
        return [
            f"float32, biases, head dimensions over {_MAX_FLASH_DIM} and deterministic results need "
            f"a compute capability up to 9.0, and the device has {name}"
        ]
    return []


def _reasons_of_memory(inputs: AttentionInputs) -> list[str]:
    if _stays_packed(inputs):
        return []
    longest = inputs.query_sequences.max_length * inputs.sequences.max_length
    elements = inputs.sequences.num_sequences * inputs.q.shape[1] * longest
    if elements <= MAX_BIAS_ELEMENTS:
        return []
    return [
        f"this bias or mask must be a tensor over all pairs, of {elements:,} numbers, more than "
        f"{MAX_BIAS_ELEMENTS:,} (make sequences or the batch smaller, or have no bias and a plain mask)"
    ]


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
