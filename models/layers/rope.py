"""Rotary position embedding (RoPE, arXiv 2104.09864)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

BASE = 10000.0


class Rotation(NamedTuple):
    """By how much the queries and keys of each token are turned; the same for all heads and blocks."""

    cos: Tensor
    """[tokens, 1, dim / 2] float32 or float64."""
    sin: Tensor
    """[tokens, 1, dim / 2]"""


class RotaryEmbedding(nn.Module):
    """Angles `position * 10000^(-2 i / dim)` for `i < dim / 2`.

    Args:
        dim: width of queries and keys, a head; even.
        positions: how many there are.

    Raises:
        ValueError: `dim` is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, positions: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"RoPE turns pairs of numbers: {dim} is odd")
        # In float64, because angles at late positions are large and only their remainder counts.
        frequency = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, position: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of each token.

        Args:
            position: [tokens] int64, below the number of positions.
            dtype: of the model's numbers; less than float32 is raised to it.
        """
        precision = torch.promote_types(dtype, torch.float32)
        return Rotation(*(table[position][:, None].to(precision) for table in (self.cos, self.sin)))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs `(x[i], x[i + dim / 2])` of each head; the product of q and k then depends on `i - j`.

    Args:
        x: [tokens, heads, dim].
        rotation: of the same tokens.

    Returns:
        [tokens, heads, dim] of x's dtype.
    """
    first, second = x.chunk(2, dim=-1)
    turned = (first * rotation.cos - second * rotation.sin, second * rotation.cos + first * rotation.sin)
    return torch.cat(turned, dim=-1).to(x.dtype)
