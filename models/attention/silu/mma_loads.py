"""Loads of small read-only tables, and logarithms, in the register layout of the matrix units (MMA).

Left to itself, the compiler would load a tile in an order that suits memory and transpose it through shared
memory; these loads hit the cache, and their results are wanted where scores are. On the CPU, for tests,
kernels are interpreted, and there is no assembly.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, RUF005 (Triton's tuples can be added, not unpacked into one)

from __future__ import annotations

import triton
import triton.language as tl

from models.gpu.interpreter import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)


@triton.jit
def load_at(table, place):
    """table[place] of a float32, int32 or int64 table, for a tile of int32 places."""
    if _NATIVE:
        bytes_each = table.dtype.element_ty.primitive_bitwidth // 8
        return _load_native(table.to(tl.int64) + bytes_each * place.to(tl.int64), table.dtype.element_ty)
    else:
        return tl.load(table + place)


# A thread of the matrix units holds rows 8 apart, and pairs of columns 8 apart. Below, bits of rows and of
# columns that are constant in a thread stand apart from those that are not: the compiler then sees that
# addresses differ by constants, which cost no instruction, and which of them are the same. In any other
# layout this is right too, but slower.
FAR_ROW, FAR_COLUMNS = 8, ~6
_ROW, _COLUMN = tl.constexpr(FAR_ROW), tl.constexpr(FAR_COLUMNS)


@triton.jit
def load_diagonals(table, start, ROWS: tl.constexpr, COLUMNS: tl.constexpr, SIGN: tl.constexpr, most=None):
    """[ROWS, COLUMNS] `table[start + SIGN * (row - column)]`, SIGN 1 or -1; few differ in a thread.

    With `most`, places below 0 and above it are read there.
    """
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    varying = start + SIGN * ((row & ~_ROW) - (column & ~_COLUMN))
    constant = SIGN * ((row & _ROW) - (column & _COLUMN))
    if most is None:
        return _load_adjacent(table, varying, constant)
    else:
        return load_at(table, tl.maximum(tl.minimum(varying + constant, most), 0))


@triton.jit
def load_row(table, start, COLUMNS: tl.constexpr):
    """[1, COLUMNS] of a table from `start` on."""
    column = tl.arange(0, COLUMNS)[None, :]
    return _load_adjacent(table, start + (column & ~_COLUMN), column & _COLUMN)


@triton.jit
def load_column(table, start, ROWS: tl.constexpr, STRIDE: tl.constexpr = 1):
    """[ROWS, 1] of a table of rows of STRIDE numbers, their first ones, from row `start` on."""
    row = tl.arange(0, ROWS)[:, None]
    return _load_adjacent(table, (start + (row & ~_ROW)) * STRIDE, (row & _ROW) * STRIDE)


@triton.jit
def _load_adjacent(table, varying, constant):
    if _NATIVE:
        place = (table.to(tl.int64) + 4 * varying.to(tl.int64)) + 4 * constant.to(tl.int64)
        return _load_native(place, table.dtype.element_ty)
    else:
        return tl.load(table + (varying + constant))


@triton.jit
def load_vector(table, varying, constant, COUNT: tl.constexpr):
    """A tuple of the COUNT numbers, 1, 2 or 4, of an int32 table from `varying + constant` on, which is a
    multiple of COUNT: one read."""
    tl.static_assert((COUNT == 1) | (COUNT == 2) | (COUNT == 4))
    if _NATIVE:
        place = (table.to(tl.int64) + 4 * varying.to(tl.int64)) + 4 * constant.to(tl.int64)
        if COUNT == 4:
            return tl.inline_asm_elementwise(
                "ld.global.nc.v4.u32 {$0, $1, $2, $3}, [$4];", "=r,=r,=r,=r,l", [place],
                dtype=(tl.int32, tl.int32, tl.int32, tl.int32), is_pure=True, pack=1,
            )  # fmt: skip
        elif COUNT == 2:
            return tl.inline_asm_elementwise(
                "ld.global.nc.v2.u32 {$0, $1}, [$2];", "=r,=r,l", [place],
                dtype=(tl.int32, tl.int32), is_pure=True, pack=1,
            )  # fmt: skip
        else:
            return (_load_native(place, table.dtype.element_ty),)
    else:
        numbers = (tl.load(table + (varying + constant)),)
        for number in tl.static_range(1, COUNT):
            numbers = numbers + (tl.load(table + (varying + constant) + number),)  # type: ignore[assignment]
        return numbers


@triton.jit
def _load_native(place, TYPE: tl.constexpr):
    """The float32, int32 or int64 at each address."""
    if TYPE.is_floating():
        # Not as constant memory: early loads would then be delayed until they are needed.
        return tl.inline_asm_elementwise(
            "ld.global.f32 $0, [$1];", "=f,l", [place], dtype=tl.float32, is_pure=True, pack=1
        )
    elif TYPE.primitive_bitwidth == 32:
        return tl.inline_asm_elementwise(
            "ld.global.nc.u32 $0, [$1];", "=r,l", [place], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        return tl.inline_asm_elementwise(
            "ld.global.nc.u64 $0, [$1];", "=l,l", [place], dtype=tl.int64, is_pure=True, pack=1
        )


@triton.jit
def saturate(left, right):
    """`left + right` of float32, between 0 and 1: one addition."""
    if _NATIVE:
        return tl.inline_asm_elementwise(
            "add.sat.f32 $0, $1, $2;", "=f,f,f", [left, right], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.minimum(tl.maximum(left + right, 0.0), 1.0)


@triton.jit
def fast_log2(x):
    """log2 of a float32 from 1 on, wrong by 1e-5 at most: one operation of the special-function unit."""
    if _NATIVE:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.log2(x)
