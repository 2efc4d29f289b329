"""Rows of length 1 and their gradients, each in one pass; a program ROWS rows."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("rows",))
def unit_kernel(
    x,
    out,
    inverse,
    rows,
    eps,
    STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
):
    """`out = x / max(|x|, eps)`; `inverse` is what rows were multiplied by. Only x may have gaps."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    place = row.to(tl.int64)[:, None]
    found = tl.load(x + place * STRIDE + dim[None, :], mask=here, other=0.0).to(tl.float32)
    factor = 1.0 / tl.maximum(tl.sqrt_rn(tl.sum(found * found, axis=1)), eps)
    tl.store(out + place * WIDTH + dim[None, :], found * factor[:, None], mask=here)
    tl.store(inverse + row, factor, mask=row < rows)


@triton.jit(do_not_specialize=("rows",))
def unit_gradient_kernel(
    out, inverse, given, dx, rows, eps, WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr
):
    """`dx = (given - out (out . given)) / |x|`, all of them dense; where |x| <= eps, `given / eps`."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    place = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    unit = tl.load(out + place, mask=here, other=0.0)
    slope = tl.load(given + place, mask=here, other=0.0)
    factor = tl.load(inverse + row, mask=row < rows, other=0.0)
    along = tl.where(factor * eps < 1.0, tl.sum(unit * slope, axis=1), 0.0)
    found = (slope - unit * along[:, None]) * factor[:, None]
    tl.store(dx + place, found.to(dx.dtype.element_ty), mask=here)
