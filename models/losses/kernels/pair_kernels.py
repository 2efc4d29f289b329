"""Passes over the queries and the vectors of their targets around the softmax; a program ROWS rows."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

_LARGEST = tl.constexpr(65504.0)  # of half precision: what is larger would be infinite


@triton.jit(do_not_specialize=("rows",))
def pair_kernel(
    query, vectors, scores, rows, scale, WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr
):
    """`scores = scale * (query . vectors)` of each row; both dense."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    place = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    one = tl.load(query + place, mask=here, other=0.0)
    other = tl.load(vectors + place, mask=here, other=0.0)
    tl.store(scores + row, tl.sum(one * other, axis=1) * scale, mask=row < rows)


@triton.jit(do_not_specialize=("rows",))
def pair_gradient_kernel(
    query, vectors, given, dquery, dvectors, rows, scale,
    WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The gradients of both, given that of the scores."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    dim = tl.arange(0, DIM)
    here = (row < rows)[:, None] & (dim < WIDTH)[None, :]
    place = row.to(tl.int64)[:, None] * WIDTH + dim[None, :]
    slope = (tl.load(given + row, mask=row < rows, other=0.0) * scale)[:, None]
    tl.store(dquery + place, tl.load(vectors + place, mask=here, other=0.0) * slope, mask=here)
    tl.store(dvectors + place, tl.load(query + place, mask=here, other=0.0) * slope, mask=here)


@triton.jit(do_not_specialize=("rows", "given"))
def narrow_kernel(
    x, place, number, out, rows, given, scale, STRIDE: tl.constexpr,
    WIDTH: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`out = scale * x[place]`, cut off where half precision ends, with zeros up to STRIDE numbers a row.

    Without `place` rows are taken as they are. There are zeros from row `given` on, and from `number` on, if
    there is one.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = row < given
    if number is not None:
        exists = exists & (row < tl.load(number))
    source = row.to(tl.int64)
    if place is not None:
        source = tl.load(place + row, mask=exists, other=0)
    dim = tl.arange(0, DIM)
    taken = x + source[:, None] * WIDTH + dim[None, :]
    found = tl.load(taken, mask=exists[:, None] & (dim < WIDTH)[None, :], other=0.0) * scale
    found = tl.minimum(tl.maximum(found, -_LARGEST), _LARGEST)
    target = out + row.to(tl.int64)[:, None] * STRIDE + dim[None, :]
    tl.store(target, found.to(out.dtype.element_ty), mask=(row < rows)[:, None] & (dim < STRIDE)[None, :])


@triton.jit(do_not_specialize=("rows", "given"))
def columns_kernel(ranks, bias, number, out_ranks, out_bias, rows, given, scale, BLOCK: tl.constexpr):
    """Ranks, and biases times a scale; from `number` on, those of columns that count for nothing."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = (row < given) & (row < tl.load(number))
    rank = tl.load(ranks + row, mask=exists, other=-1)
    more = tl.load(bias + row, mask=exists, other=float("-inf")) * scale
    tl.store(out_ranks + row, rank, mask=row < rows)
    tl.store(out_bias + row, more, mask=row < rows)
