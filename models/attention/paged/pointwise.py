"""SiLU of projections, where they are read."""
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def silu(tile):
    """Of any type, rounded to it once: exact, as what is stored is read again and again."""
    x = tile.to(tl.float32)
    return (x / (1.0 + tl.exp(-x))).to(tile.dtype)
