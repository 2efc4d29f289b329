"""Normalization of each token's vector."""

from __future__ import annotations

from typing import Literal

from torch import nn

NormKind = Literal["layer", "layer_without_affine", "rms", "rms_without_affine", "none"]


def make_norm(kind: NormKind, dim: int, eps: float) -> nn.Module:
    """A norm over the last axis.

    Args:
        kind: `layer` centers and divides by the standard deviation (LayerNorm, arXiv 1607.06450), `rms` only
            divides by the root mean square (RMSNorm, arXiv 1910.07467); each with a learned scale (and shift)
            or `without_affine`. `none` returns its input.
        dim: width of the axis.
        eps: added to the variance, or to the mean square.
    """
    affine = not kind.endswith("_without_affine")
    if kind == "none":
        return nn.Identity()
    if kind.startswith("layer"):
        return nn.LayerNorm(dim, eps=eps, elementwise_affine=affine)
    return nn.RMSNorm(dim, eps=eps, elementwise_affine=affine)
