"""`dropout(norm(x) * gate)` and its gradients, each in one pass over the rows.

A program holds whole rows, [ROWS, WIDTH] with WIDTH the width of a row rounded up to a power of two, and sums
along them in float32. Means and deviations are found again in the backward pass, which reads x anyway.
Gradients of weight and bias are summed without atomics: each program writes one row of sums over its rows,
and a second kernel adds these up in a fixed order.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl


class Sizes(NamedTuple):
    """What the kernels are compiled for: one `tl.constexpr` argument."""

    X_STRIDE: int
    """Numbers from row to row."""
    GATE_STRIDE: int
    DIM: int
    """Numbers in a row."""
    WIDTH: int
    """DIM rounded up to a power of two."""
    ROWS: int
    """Of a tile."""
    VECTOR: int
    """Numbers that a thread reads at a time."""
    CENTERED: bool
    """LayerNorm, or else RMSNorm."""
    SILU: bool = False
    """Whether the factor is SiLU of the gate."""


@triton.jit
def _places(
    tensor, first, STRIDE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr
):
    """[ROWS, WIDTH] from row `first` on. Only the step to the first can pass 2^31 elements.

    A thread reads VECTOR numbers at a time of every tensor, those of one byte too: otherwise the compiler
    gives each tensor threads of its own, and moves tiles between them through shared memory.
    """
    inside = tl.arange(0, ROWS)[:, None] * STRIDE + tl.arange(0, WIDTH)[None, :]
    return tl.max_contiguous(tensor + tl.cast(first, tl.int64) * STRIDE + inside, [1, VECTOR])


@triton.jit
def _load(
    tensor, first, exists, STRIDE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, VECTOR: tl.constexpr
):
    """float32 [ROWS, WIDTH], zeros outside of `exists`."""
    return tl.load(_places(tensor, first, STRIDE, ROWS, WIDTH, VECTOR), mask=exists, other=0).to(tl.float32)


@triton.jit
def _store(
    tensor,
    first,
    exists,
    tile,
    DIM: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Into rows that lie dense."""
    tl.store(_places(tensor, first, DIM, ROWS, WIDTH, VECTOR), tile.to(tensor.dtype.element_ty), mask=exists)


@triton.jit
def _standardize(x, exists, eps, DIM: tl.constexpr, CENTERED: tl.constexpr):
    """x [ROWS, WIDTH], zeros outside of `exists`, to rows of mean 0, if CENTERED, and mean square 1; and
    [ROWS, 1] by what they were multiplied."""
    if CENTERED:
        mean = tl.sum(x, axis=1, keep_dims=True) * (1.0 / DIM)
        x = tl.where(exists, x - mean, 0.0)
    square = tl.sum(x * x, axis=1, keep_dims=True) * (1.0 / DIM)
    factor = tl.rsqrt(square + eps)
    return x * factor, factor


@triton.jit(do_not_specialize=("tokens",))
def norm_kernel(
    x, added, weight, bias, gate, keep, total, out, tokens, eps, keep_scale,
    SIZES: tl.constexpr,
):  # fmt: skip
    """One program ROWS rows. `keep`, `out`, `added` and `total`, the sum of that and x, lie dense."""
    DIM: tl.constexpr = SIZES.DIM
    WIDTH: tl.constexpr = SIZES.WIDTH
    ROWS: tl.constexpr = SIZES.ROWS
    VECTOR: tl.constexpr = SIZES.VECTOR
    first = tl.program_id(0) * ROWS
    column = tl.arange(0, WIDTH)
    exists = (first + tl.arange(0, ROWS) < tokens)[:, None] & (column < DIM)[None, :]
    found = _load(x, first, exists, SIZES.X_STRIDE, ROWS, WIDTH, VECTOR)
    if added is not None:
        found += _load(added, first, exists, DIM, ROWS, WIDTH, VECTOR)
        # What is normed is what is stored.
        found = found.to(total.dtype.element_ty).to(tl.float32)
        _store(total, first, exists, found, DIM, ROWS, WIDTH, VECTOR)
    result, _ = _standardize(found, exists, eps, DIM, SIZES.CENTERED)
    if weight is not None:
        result *= tl.load(weight + column, mask=column < DIM, other=0.0).to(tl.float32)[None, :]
    if bias is not None:
        result += tl.load(bias + column, mask=column < DIM, other=0.0).to(tl.float32)[None, :]
    if gate is not None:
        opened = _load(gate, first, exists, SIZES.GATE_STRIDE, ROWS, WIDTH, VECTOR)
        if SIZES.SILU:
            opened = opened / (1.0 + tl.exp(-opened))
        result *= opened
    if keep is not None:
        result *= _load(keep, first, exists, DIM, ROWS, WIDTH, VECTOR) * keep_scale
    _store(out, first, exists, result, DIM, ROWS, WIDTH, VECTOR)


@triton.jit(do_not_specialize=("tokens",))
def norm_gradient_kernel(
    x, weight, bias, gate, keep, given, given_total, dx, dadded, dgate, sums, tokens, eps, keep_scale,
    SIZES: tl.constexpr,
):  # fmt: skip
    """Programs take ROWS rows in turn. All but x and gate lie dense.

    `given_total`, if any, is added to the gradient of x: x then was a sum, which is a result itself. The
    other summand has the same gradient, in its own type: `dadded`.

    `sums` is [1 or 2, programs, DIM]: of the gradients of weight and bias, over the rows of each program.
    """
    DIM: tl.constexpr = SIZES.DIM
    WIDTH: tl.constexpr = SIZES.WIDTH
    ROWS: tl.constexpr = SIZES.ROWS
    VECTOR: tl.constexpr = SIZES.VECTOR
    column = tl.arange(0, WIDTH)
    if weight is not None:
        scale = tl.load(weight + column, mask=column < DIM, other=0.0).to(tl.float32)[None, :]
        dweight = tl.zeros((ROWS, WIDTH), tl.float32)
    if bias is not None:
        shift = tl.load(bias + column, mask=column < DIM, other=0.0).to(tl.float32)[None, :]
        dbias = tl.zeros((ROWS, WIDTH), tl.float32)
    for first in tl.range(tl.program_id(0) * ROWS, tokens, tl.num_programs(0) * ROWS):
        exists = (first + tl.arange(0, ROWS) < tokens)[:, None] & (column < DIM)[None, :]
        found = _load(x, first, exists, SIZES.X_STRIDE, ROWS, WIDTH, VECTOR)
        slope = _load(given, first, exists, DIM, ROWS, WIDTH, VECTOR)
        standard, factor = _standardize(found, exists, eps, DIM, SIZES.CENTERED)
        if keep is not None:
            slope *= _load(keep, first, exists, DIM, ROWS, WIDTH, VECTOR) * keep_scale
        if gate is not None:
            opened = _load(gate, first, exists, SIZES.GATE_STRIDE, ROWS, WIDTH, VECTOR)
            normed = standard
            if weight is not None:
                normed *= scale
            if bias is not None:
                normed += shift
            opening = slope * normed
            if SIZES.SILU:
                sigmoid = 1.0 / (1.0 + tl.exp(-opened))
                opening *= sigmoid * (1.0 + opened * (1.0 - sigmoid))
                opened *= sigmoid
            _store(dgate, first, exists, opening, DIM, ROWS, WIDTH, VECTOR)
            slope *= opened
        if bias is not None:
            dbias += slope
        if weight is not None:
            # Rows past the end may be infinity times zero, where eps is zero.
            dweight += tl.where(exists, slope * standard, 0.0)
            slope *= scale
        along = tl.sum(slope * standard, axis=1, keep_dims=True) * (1.0 / DIM)
        result = slope - standard * along
        if SIZES.CENTERED:
            result -= tl.sum(slope, axis=1, keep_dims=True) * (1.0 / DIM)
        result *= factor
        if given_total is not None:
            result += _load(given_total, first, exists, DIM, ROWS, WIDTH, VECTOR)
            _store(dadded, first, exists, result, DIM, ROWS, WIDTH, VECTOR)
        _store(dx, first, exists, result, DIM, ROWS, WIDTH, VECTOR)
    row = sums
    if weight is not None:
        row = sums + tl.program_id(0) * DIM + column
        tl.store(row, tl.sum(dweight, axis=0), mask=column < DIM)
    if bias is not None:
        tl.store(row + tl.num_programs(0) * DIM, tl.sum(dbias, axis=0), mask=column < DIM)


@triton.jit(do_not_specialize=("num_blocks",))
def norm_sum_kernel(sums, out, num_blocks, DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`out = sums.sum(1)` of sums [parts, num_blocks, DIM]: a program COLUMNS columns of a part."""
    part = tl.program_id(1)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sums += part * num_blocks * DIM
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in tl.range(0, num_blocks, ROWS):
        row = first + tl.arange(0, ROWS)
        exists = (row < num_blocks)[:, None] & (column < DIM)[None, :]
        total += tl.load(sums + row[:, None] * DIM + column[None, :], mask=exists, other=0.0)
    found = tl.sum(total, axis=0)
    tl.store(out + part * DIM + column, found.to(out.dtype.element_ty), mask=column < DIM)
