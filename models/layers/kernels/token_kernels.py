"""Passes over the vectors of tokens before and after the blocks; a program ROWS rows."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("rows",))
def add_kernel(
    x, table, place, keep, out, rows, scale, keep_scale,
    WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`out = dropout(scale * x + table[place])`; all dense."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    own = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    found = tl.load(x + own, mask=here, other=0.0) * scale
    source = tl.load(place + row, mask=row < rows, other=0)
    found += tl.load(table + source[:, None] * WIDTH + dim[None, :], mask=here, other=0.0)
    if keep is not None:
        found *= tl.load(keep + own, mask=here, other=0).to(tl.float32) * keep_scale
    tl.store(out + own, found, mask=here)


@triton.jit(do_not_specialize=("rows",))
def add_gradient_kernel(
    given, keep, dx, dadded, rows, scale, keep_scale,
    WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradients of x, and of the rows that are added to it."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    own = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    slope = tl.load(given + own, mask=here, other=0.0)
    if keep is not None:
        slope *= tl.load(keep + own, mask=here, other=0).to(tl.float32) * keep_scale
    tl.store(dadded + own, slope, mask=here)
    tl.store(dx + own, slope * scale, mask=here)


@triton.jit(do_not_specialize=("rows",))
def put_back_kernel(given, taken, out, rows, WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr):
    """`out` row r is row `taken[r]` of `given`; zeros where that is negative. All dense."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    inside = (dim < WIDTH)[None, :]
    source = tl.load(taken + row, mask=row < rows, other=-1)
    there = (source >= 0)[:, None] & inside
    found = tl.load(given + source[:, None] * WIDTH + dim[None, :], mask=there, other=0.0)
    target = out + row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    tl.store(target, found, mask=(row < rows)[:, None] & inside)
