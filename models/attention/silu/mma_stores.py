"""Stores of tiles from the register layout of the matrix units (MMA).

Left to itself, the compiler would transpose a tile through shared memory first, to store longer pieces of
rows: that costs registers all through a kernel, where these cost an instruction for two numbers.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.mma_loads import FAR_COLUMNS, FAR_ROW
from models.gpu.interpreter import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)
# Two numbers at an address, where they exist; a result that nobody wants, since there must be one.
_BFLOAT16, _FLOAT16, _FLOAT32 = (
    tl.constexpr("{ .reg .pred p; .reg .b32 t; setp.ne.u32 p, $4, 0; " + write + " mov.u32 $0, 0; }")
    for write in (
        "cvt.rn.bf16x2.f32 t, $3, $2; @p st.global.b32 [$1], t;",
        "cvt.rn.f16x2.f32 t, $3, $2; @p st.global.b32 [$1], t;",
        "@p st.global.v2.f32 [$1], {$2, $3};",
    )
)
_ROW, _COLUMN = tl.constexpr(FAR_ROW), tl.constexpr(FAR_COLUMNS)


@triton.jit
def store_tile(target, tile, STRIDE: tl.constexpr, exists):
    """Write a [rows, columns] tile of float32, in the type of `target`, where its first number goes, to rows
    of STRIDE numbers; `exists` [rows, 1] says which ones. STRIDE, and the place of `target`, are even."""
    ROWS: tl.constexpr = tile.shape[0]
    PAIRS: tl.constexpr = tile.shape[1] // 2
    even, odd = tl.split(tl.reshape(tile, (ROWS, PAIRS, 2)))
    row = tl.arange(0, ROWS)[:, None]
    column = 2 * tl.arange(0, PAIRS)[None, :]
    # As for reads: what is constant in a thread apart from what is not.
    varying = (row & ~_ROW) * STRIDE + (column & ~_COLUMN)
    constant = (row & _ROW) * STRIDE + (column & _COLUMN)
    if _NATIVE:
        bytes_each: tl.constexpr = target.dtype.element_ty.primitive_bitwidth // 8
        place = (target.to(tl.int64) + bytes_each * varying) + bytes_each * constant
        exists = exists.to(tl.int32)
        if target.dtype.element_ty == tl.bfloat16:
            _store_pairs(place, even, odd, exists, _BFLOAT16)
        elif target.dtype.element_ty == tl.float16:
            _store_pairs(place, even, odd, exists, _FLOAT16)
        else:
            tl.static_assert(target.dtype.element_ty == tl.float32)
            _store_pairs(place, even, odd, exists, _FLOAT32)
    else:
        place = target + (varying + constant)
        exists = exists & (column >= 0)
        tl.store(place, even.to(target.dtype.element_ty), mask=exists)
        tl.store(place + 1, odd.to(target.dtype.element_ty), mask=exists)


@triton.jit
def _store_pairs(place, even, odd, exists, HOW: tl.constexpr):
    tl.inline_asm_elementwise(
        HOW, "=r,l,f,f,r", [place, even, odd, exists], dtype=tl.int32, is_pure=False, pack=1
    )  # fmt: skip
