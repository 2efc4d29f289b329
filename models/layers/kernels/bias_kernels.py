"""Sums over rows in a fixed order, of many rows side by side."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("rows", "each"))
def column_sums_kernel(
    given, sums, rows, each, STRIDE: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr
):
    """`sums`, dense float32: of each program the sums over `each` rows, ROWS at a time, of DIM columns."""
    dim = tl.program_id(1) * DIM + tl.arange(0, DIM)
    inside = (dim < WIDTH)[None, :]
    first = tl.program_id(0) * each
    last = tl.minimum(first + each, rows)
    total = tl.zeros((ROWS, DIM), tl.float32)
    for begin in tl.range(first, last, ROWS):
        row = begin + tl.arange(0, ROWS)
        place = row.to(tl.int64)[:, None] * STRIDE + dim[None, :]
        total += tl.load(given + place, mask=(row < last)[:, None] & inside, other=0.0).to(tl.float32)
    tl.store(sums + tl.program_id(0).to(tl.int64) * WIDTH + dim, tl.sum(total, axis=0), mask=dim < WIDTH)
