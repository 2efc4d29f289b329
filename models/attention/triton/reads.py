"""Reads of small tables that nothing writes, and logarithms, in the layout of the matrix units.

Left to itself, the compiler would read a tile in an order that suits memory and turn it around in shared
memory; these reads hit the cache, and want to stay where scores are. On the CPU, for tests, kernels are
interpreted, and there is no assembly.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.triton.step import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)


@triton.jit
def read(table, place):
    """table[place] of a float32 or int32 table, for a tile of int32 places."""
    if _NATIVE:
        return _read_native(table.to(tl.int64) + 4 * place.to(tl.int64), table.dtype.element_ty)
    else:
        return tl.load(table + place)


@triton.jit
def read_diagonals(table, row, column):
    """table[row - column] of a float32 table, for int32 `[rows, 1]` and `[1, columns]`.

    A thread of the matrix units holds rows 8 apart and columns 8 apart, and so few different diagonals.
    Addresses that are one of the row less one of the column let the compiler see which are the same, and
    that they differ by constants, which cost no instruction.
    """
    if _NATIVE:
        place = table.to(tl.int64) + 4 * row.to(tl.int64) - 4 * column.to(tl.int64)
        return _read_native(place, tl.float32)
    else:
        return tl.load(table + (row - column))


@triton.jit
def _read_native(place, TYPE: tl.constexpr):
    """The float32 or int32 at each address."""
    if TYPE == tl.float32:
        return tl.inline_asm_elementwise(
            "ld.global.nc.f32 $0, [$1];", "=f,l", [place], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.inline_asm_elementwise(
            "ld.global.nc.u32 $0, [$1];", "=r,l", [place], dtype=tl.int32, is_pure=True, pack=1
        )


@triton.jit
def fast_log2(x):
    """log2 of a float32 from 1 on, wrong by 1e-5 at most: one operation of the special-function unit."""
    if _NATIVE:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.log2(x)
