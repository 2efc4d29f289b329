"""Feed-forward networks that treat every token alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PointwiseFeedForward(nn.Module):
    """`dropout(f2(dropout(relu(f1(x)))))`, both layers as wide as the input.

    SASRec, arXiv 1808.09781, eq. 6, whose own code writes the linear layers as convolutions of width 1.
    Weights are Xavier uniform, biases zero.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.f1 = nn.Linear(dim, dim)
        self.f2 = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.f1, self.f2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, dim] -> [tokens, dim]."""
        return self.dropout(self.f2(self.dropout(F.relu(self.f1(x)))))
