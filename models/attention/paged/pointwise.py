"""SiLU of projections, where they are read."""
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from models.gpu.interpreter import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)


@triton.jit
def silu(tile):
    """Of any type, rounded to it once: exact but for 2^-22, as what is stored is read again and again."""
    x = tile.to(tl.float32)
    below = 1.0 + tl.exp(-x)
    if _NATIVE:
        # One operation, where a division is ten.
        x *= tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [below], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        x = x / below
    return x.to(tile.dtype)
