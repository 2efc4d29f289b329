"""First values of linear layers."""

from __future__ import annotations

import torch
from torch import nn


def init_linear(layer: nn.Linear, std: float | None, widths: list[int] | None = None) -> None:
    """Draw weights from torch's global generator, and set biases to zero.

    Args:
        layer: what to fill.
        std: of a normal; None for Xavier uniform (Glorot and Bengio, 2010).
        widths: of the layers that stand one above the other in `layer`, each with Xavier bounds of its own;
            None for a single one.
    """
    if std is not None:
        nn.init.normal_(layer.weight, 0.0, std)
    else:
        with torch.no_grad():
            for weight in layer.weight.split(widths or [len(layer.weight)]):
                nn.init.xavier_uniform_(weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
