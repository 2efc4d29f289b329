"""Dropout that saves a mask of one byte per element, and takes a given mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout: in training, zeros with a probability, and the rest divided by one minus it.

    Args:
        probability: of a zero, below 1.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    @property
    def active(self) -> bool:
        """Whether it drops anything now."""
        return self.training and self.probability > 0

    @property
    def scale(self) -> float:
        """Factor of the elements that are kept."""
        return 1 / (1 - self.probability)

    def draw(self, *shape: int, device: torch.device) -> Tensor | None:
        """A mask of what is kept, bool of a shape; None: all of it. For a `forward` that is recomputed."""
        if not self.active:
            return None
        return torch.empty(shape, dtype=torch.bool, device=device).bernoulli_(1 - self.probability)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Of x's shape.

        Args:
            x: anything.
            keep: from `draw`, of x's shape; drawn here if None.
        """
        if not self.active:
            return x
        if keep is None:
            # Not F.dropout, which on the CPU saves a float per element.
            dropped: Tensor = torch.native_dropout(x, self.probability, True)[0]
            return dropped
        # The multiplication by a mask and a factor, as one operation.
        masked: Tensor = torch.ops.aten.native_dropout_backward(x, keep, self.scale)
        return masked

    def extra_repr(self) -> str:
        return f"probability={self.probability}"
