"""Hints to the compiler about the order of instructions; none of them is an instruction itself."""
# mypy: allow-untyped-defs

from __future__ import annotations

import triton
import triton.language as tl

from models.gpu.interpreter import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)


@triton.jit
def wait_for_product(tile):
    """A sum of products, waited for before the next iteration begins.

    Otherwise the compiler leaves the last product of an iteration in flight into the next one, and then, for
    want of proof that nobody touches its registers, lets every product wait for the one before.
    """
    if _NATIVE:
        # No instruction at all, but a use.
        return tl.inline_asm_elementwise("", "=r,0", [tile], dtype=tl.float32, is_pure=True, pack=1)
    else:
        return tile


@triton.jit
def tie(tile, other):
    """A tile of 4-byte numbers, computed where another is, in the layout of the matrix units if that is of
    scores; and once the other, or a row or column that is given in its place, is asked for."""
    if _NATIVE:
        # No instruction at all: nobody waits for the other, but the compiler keeps the order.
        return tl.inline_asm_elementwise("", "=r,0,r", [tile, other], dtype=tile.dtype, is_pure=True, pack=1)
    else:
        return tile
