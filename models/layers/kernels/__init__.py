"""What stands around attention in a block, fused for the GPU: norm, gate and dropout in one kernel, a sum
and its norm in another, and SiLU of the parts of a projection.

Where the kernel does not run, and in graphs of torch.compile, which fuses by itself, layers use torch's own
operations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.gpu import availability

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_MAX_DIM = 4096


def fits(x: Tensor, *others: Tensor | None) -> bool:
    """Whether `norm_gate_dropout` takes x and such others (gate, weight, bias) here."""
    if torch.compiler.is_compiling() or x.shape[-1] > _MAX_DIM or not availability.runs_on(x):
        return False
    # Others have a row for each of x, or one for all; torch tells of any other shape.
    shapes = (x.shape, x.shape[-1:]) if x.shape[-1] else ()
    return x.dtype in _DTYPES and all(
        other is None or (other.dtype in _DTYPES and other.shape in shapes) for other in others
    )


def norm_gate_dropout(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    gate: Tensor | None = None,
    keep: Tensor | None = None,
    keep_scale: float = 1.0,
    *,
    centered: bool,
    eps: float,
    dtype: torch.dtype | None = None,
    silu: bool = False,
) -> Tensor:
    """`dropout(norm(x) * gate)` over the last axis; of tensors that `fits`.

    Sums are in float32, whatever the tensors are in, and in a fixed order. What is kept for the backward pass
    is the tensors given, and nothing else.

    Args:
        x: [..., dim]; numbers of a row next to each other, or it is copied.
        weight: [dim], a factor; None for 1.
        bias: [dim], added, with a weight only; None for 0.
        gate: of x's shape, a factor; None for 1. Rows may be a part of longer ones.
        keep: bool, of x's shape: what dropout keeps; None for all.
        keep_scale: factor of what is kept.
        centered: LayerNorm (arXiv 1607.06450); False: RMSNorm (arXiv 1910.07467).
        eps: added to the variance, or to the mean square.
        dtype: of the result; None for x's, also under autocast.
        silu: whether the factor is SiLU of the gate.

    Returns:
        Of x's shape.
    """
    # Not at the top of the file: without a GPU there need be no triton.
    from models.layers.kernels.norm_function import NormGateDropout, Numbers

    out: Tensor = NormGateDropout.apply(
        _rows(x), weight, bias, _rows(gate), _rows(keep),
        Numbers(centered, eps, keep_scale, dtype or x.dtype, silu),
    )  # fmt: skip
    return out if x.ndim == 2 else out.view(x.shape)


def fits_rows(x: Tensor, dtypes: tuple[torch.dtype, ...] = _DTYPES) -> bool:
    """Whether passes over rows take x, [..., dim], here: vectors of length 1, rows that are added or taken.

    Args:
        x: with rows of dim numbers.
        dtypes: that the pass takes.
    """
    if torch.compiler.is_compiling() or x.dtype not in dtypes or not 0 < x.shape[-1] <= _MAX_DIM:
        return False
    return availability.runs_on(x)


def fits_parts(projected: Tensor) -> bool:
    """Whether `activated_parts` takes a projection here."""
    if torch.compiler.is_compiling() or projected.ndim != 2 or projected.dtype not in _DTYPES:
        return False
    return availability.runs_on(projected)


def activated_parts(projected: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    """U as it is, if there is one, and SiLU of V, Q and K: parts of a projection that `fits_parts`.

    Their gradients come back in one pass, without being put together first. What is kept for it is the
    projection alone.

    Args:
        projected: [tokens, sum(widths)].
        widths: of [U,] V, Q and K, which stand in this order.

    Returns:
        [tokens, width] each.
    """
    from models.layers.kernels.parts_function import ActivatedParts

    return list(ActivatedParts.apply(projected, widths))


def _rows(tensor: Tensor | None) -> Tensor | None:
    """[tokens, dim]"""
    return tensor if tensor is None or tensor.ndim == 2 else tensor.reshape(-1, tensor.shape[-1])
