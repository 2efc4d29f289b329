"""Rotary position embedding (RoPE, arXiv 2104.09864)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

BASE = 10000.0


class Rotation(NamedTuple):
    """Rotation of the queries and keys of each token; the same for all heads and blocks."""

    cos: Tensor
    """[tokens, 1, dim / 2] float32 or float64."""
    sin: Tensor
    """[tokens, 1, dim / 2]"""


class RotaryEmbedding(nn.Module):
    """Angles `position * 10000^(-2 i / dim)` for `i < dim / 2`.

    Args:
        dim: width of queries and keys per head; even.
        positions: number of positions.

    Raises:
        ValueError: `dim` is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int, positions: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"RoPE rotates pairs of coordinates: {dim} is odd")
        # In float64: angles at late positions are large, and float32 would lose their fraction of a turn.
        frequency = BASE ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, position: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of each token.

        Args:
            position: [tokens] int64, below the number of positions.
            dtype: of queries and keys; below float32 the rotation is float32.
        """
        precision = torch.promote_types(dtype, torch.float32)
        return Rotation(*(table[position][:, None].to(precision) for table in (self.cos, self.sin)))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the pairs `(x[i], x[i + dim / 2])` of each head; the product of q and k then depends on `i - j`.

    Args:
        x: [tokens, heads, dim].
        rotation: of the same tokens.

    Returns:
        [tokens, heads, dim] of x's dtype.
    """
    first, second = x.chunk(2, dim=-1)
    rotated = (first * rotation.cos - second * rotation.sin, second * rotation.cos + first * rotation.sin)
    return torch.cat(rotated, dim=-1).to(x.dtype)
