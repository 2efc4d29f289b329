"""LayerNorm and RMSNorm, also fused with a gate and dropout."""

from __future__ import annotations

from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers.dropout import Dropout
from models.layers.kernels import fits, norm_gate_dropout
from models.layers.kinds import NormKind


class LayerNorm(nn.LayerNorm):
    """torch's, over the last axis, and in the kernel where one fits."""

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape."""
        return _fused(self, x) if fits(x, self.weight, self.bias) else super().forward(x)


class RMSNorm(nn.RMSNorm):
    """The same of torch's RMSNorm."""

    eps: float
    bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape."""
        return _fused(self, x) if fits(x, self.weight) else super().forward(x)


def _fused(
    norm: LayerNorm | RMSNorm,
    x: Tensor,
    gate: Tensor | None = None,
    keep: Tensor | None = None,
    keep_scale: float = 1.0,
    dtype: torch.dtype | None = None,
    silu: bool = False,
) -> Tensor:
    centered = isinstance(norm, LayerNorm)
    return norm_gate_dropout(
        x, norm.weight, norm.bias, gate, keep, keep_scale, centered=centered, eps=norm.eps, dtype=dtype,
        silu=silu,
    )  # fmt: skip


def make_norm(kind: NormKind, dim: int, eps: float) -> nn.Module:
    """A norm over the last axis.

    Args:
        kind: `layer` centers and divides by the standard deviation (LayerNorm, arXiv 1607.06450), `rms` only
            divides by the root mean square (RMSNorm, arXiv 1910.07467); each with a learned scale (and shift)
            or `without_affine`. `none` returns its input.
        dim: width of the axis.
        eps: added to the variance, or to the mean square.

    Raises:
        ValueError: there is no such kind.
    """
    affine = not kind.endswith("_without_affine")
    if kind == "none":
        return nn.Identity()
    if kind in ("layer", "layer_without_affine"):
        return LayerNorm(dim, eps=eps, elementwise_affine=affine)
    if kind in ("rms", "rms_without_affine"):
        return RMSNorm(dim, eps=eps, elementwise_affine=affine)
    raise ValueError(f"there is no norm '{kind}'")


def norm_for_product(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x)` for a linear layer: under autocast of the type that it multiplies, so that nothing is cast.

    Args:
        norm: from `make_norm`.
        x: [..., dim].

    Returns:
        Of x's shape.
    """
    if not (_has_kernel(norm) and fits(x, norm.weight, norm.bias)):
        return norm(x)
    return _fused(norm, x, dtype=_multiplied(x))


def add_and_norm(norm: nn.Module, x: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """`x + added` and `norm_for_product` of it, in one kernel where it fits, as are their gradients.

    Args:
        norm: from `make_norm`.
        x, added: [tokens, dim].
    """
    wider = torch.promote_types(x.dtype, added.dtype)
    fitting = _has_kernel(norm) and fits(x, added, norm.weight, norm.bias)
    if not fitting or (wider != x.dtype and torch.is_grad_enabled()):
        total = x + added
        return total, norm_for_product(norm, total)
    from models.layers.kernels.norm_function import (  # without a GPU there need be no triton
        AddAndNorm,
        Numbers,
    )

    assert _has_kernel(norm)
    numbers = Numbers(isinstance(norm, LayerNorm), norm.eps, 1.0, _multiplied(x) or wider)
    found: tuple[Tensor, Tensor] = AddAndNorm.apply(x, added, norm.weight, norm.bias, numbers)
    return found


def _multiplied(x: Tensor) -> torch.dtype | None:
    """The type that linear layers multiply under autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def norm_gate_drop(
    norm: nn.Module,
    dropout: Dropout,
    x: Tensor,
    gate: Tensor | None,
    keep: Tensor | None = None,
    *,
    silu: bool = False,
) -> Tensor:
    """`dropout(norm(x) * gate)`, in one kernel where it fits.

    Args:
        norm: from `make_norm`.
        dropout: of the product.
        x: [..., dim].
        gate: of x's shape, or None for 1.
        keep: from `dropout.draw`, of x's shape; drawn here if None.
        silu: whether SiLU of the gate is still to be taken.

    Returns:
        Of x's shape.
    """
    if _has_kernel(norm) and fits(x, gate, norm.weight, norm.bias):
        if keep is None:
            keep = dropout.draw(*x.shape, device=x.device)
        return _fused(norm, x, gate, keep, dropout.scale, silu=silu)
    if silu and gate is not None:
        gate = F.silu(gate)
    normed = norm(x)
    return dropout(normed if gate is None else normed * gate, keep)


def _has_kernel(norm: nn.Module) -> TypeGuard[LayerNorm | RMSNorm]:
    return isinstance(norm, (LayerNorm, RMSNorm))
