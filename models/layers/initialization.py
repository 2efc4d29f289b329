"""Initial values of linear layers and embedding tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INIT_STD = 0.02
"""Standard deviation of a fresh embedding table before it is truncated."""


def init_linear(layer: nn.Linear, std: float | None, widths: list[int] | None = None) -> None:
    """Draw weights from torch's global generator, and set biases to zero.

    Args:
        layer: what to fill.
        std: of a normal; None: Xavier uniform (Glorot and Bengio, 2010).
        widths: of the layers that are fused in `layer`, each with Xavier bounds of its own; None: it is one.
    """
    if std is not None:
        nn.init.normal_(layer.weight, 0.0, std)
    else:
        with torch.no_grad():
            for weight in layer.weight.split(widths or [len(layer.weight)]):
                nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_embedding(weight: Tensor, std: float = INIT_STD) -> None:
    """Draw an embedding table from a normal truncated at two standard deviations; row 0, padding, is zero."""
    init_truncated(weight, std)
    with torch.no_grad():
        weight[0].zero_()


def init_truncated(weight: Tensor, std: float) -> None:
    """Draw from a normal truncated at two standard deviations (0.88 of the deviation is left)."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
