"""Sizes of tiles, found by measuring on an H100 (docs/attention.md); a table instead of a search at run time.

A search would compile every candidate, seconds each, in the first step of every training run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Shape:
    """How one kernel is cut."""

    tile: int
    """Tokens that a program owns."""
    stream: int
    """Tokens that it reads at a time."""
    warps: int
    stages: int
    """Depth of the pipeline of reads."""


@dataclass(frozen=True)
class Shapes:
    """How all kernels of a problem are cut."""

    forward: Shape
    keys: Shape
    queries: Shape
    diagonals: Shape
    shares: int
    """Programs that share the tiles of a block diagonal."""


@lru_cache(maxsize=256)
def shapes(qk_width: int, v_width: int, element_size: int, short: bool) -> Shapes:
    """Shapes for head dimensions rounded up to powers of two, and for `short` sequences (64 tokens or so)."""
    width = max(qk_width, v_width)
    if element_size == 4:
        small = Shape(64, 32, 4, 2) if width <= 64 else Shape(32, 32, 4, 1)
        return Shapes(small, small, small, small, 2)
    if width > 128:
        return Shapes(
            Shape(128, 64, 8, 2), Shape(64, 32, 8, 2), Shape(64, 32, 8, 2), Shape(64, 64, 8, 1), shares=2
        )
    if short:
        small = Shape(64, 64, 4, 2)
        return Shapes(small, small, small, Shape(64, 64, 4, 1), shares=1)
    if width > 64:
        return Shapes(
            Shape(128, 64, 8, 3), Shape(128, 64, 8, 2), Shape(128, 64, 8, 2), Shape(128, 64, 8, 2), shares=2
        )
    return Shapes(
        Shape(128, 64, 4, 3), Shape(128, 64, 8, 3), Shape(128, 64, 8, 3), Shape(128, 64, 8, 2), shares=2
    )
