"""The softmax of a positive among columns that all positions share; scores are never written to memory.

As in FlashAttention-2 (arXiv 2307.08691), with queries for queries and item vectors for keys and values at
once: the mean of item vectors by their shares is the gradient of the query. Scores are logarithms to base 2,
as queries and biases come multiplied by `LOG2_E`: of that base, exponentials are one instruction.

All that is read in loops has room for whole tiles, and for one more of ranks and biases: masks would cost a
fifth of all instructions. What is there past the last position and column counts for nothing: zeros, biases
of minus infinity, and levels of infinity.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

_NOTHING = tl.constexpr(float("-inf"))
_SCALE = tl.constexpr(4096.0)  # of shares, of which half precision would lose those below 1e-7
_LOG_SCALE = tl.constexpr(12.0)
_RISE = tl.constexpr(3.0)  # 2^3 times the scale is a number of half precision
LOG2_E = 1.4426950408889634
_LOG2_E = tl.constexpr(LOG2_E)
_LOG_2 = tl.constexpr(0.6931471805599453)


class LossCut(NamedTuple):
    """How `shared_loss_kernel` is cut: one `tl.constexpr` argument."""

    ROWS: int
    COLUMNS: int
    AHEAD: bool
    """Whether ranks and biases of columns are read one turn ahead: products begin with biases, and would wait
    for them."""
    LAZY: bool
    """Whether shares are relative to a score that none is above by more than `_RISE`, so that sums are seldom
    brought up to date; else to the highest score so far."""


@triton.jit
def _log_1p(x):
    """`log(1 + x)` of a number from 0 on, also where 1 + x is 1."""
    rounded = 1.0 + x
    return tl.where(rounded == 1.0, x, tl.log(rounded) * (x / (rounded - 1.0)))


@triton.jit
def _faded(highest, total, mean, top):
    """Sums that are relative to a higher score, if there is one."""
    higher = tl.maximum(highest, top)
    fading = tl.exp2(highest - higher)
    return higher, total * fading, mean * fading[:, None]


@triton.jit
def shared_loss_kernel(
    query, items, ranks, bias, count, positive, target, losses, levels, others, grad_query, num_positions,
    DIM: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """A program ROWS positions, which goes through all columns, COLUMNS at a time.

    Writes the loss, the logarithm of the sum of all exponentials, the share of all columns together, and the
    gradient of the loss by the query.
    """
    ROWS: tl.constexpr = CUT.ROWS
    COLUMNS: tl.constexpr = CUT.COLUMNS
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = row < num_positions
    dim = tl.arange(0, DIM)
    q = tl.load(query + row[:, None] * DIM + dim[None, :])
    own = tl.load(target + row)
    score_of_own = tl.load(positive + row, mask=here, other=0.0) * _LOG2_E
    highest = score_of_own
    total = tl.zeros((ROWS,), tl.float32)
    mean = tl.zeros((ROWS, DIM), tl.float32)
    columns = tl.load(count)
    inside = tl.arange(0, COLUMNS)
    rank, more = tl.load(ranks + inside), tl.load(bias + inside)
    for first in tl.range(0, columns, COLUMNS):
        column = first + inside
        vectors = tl.load(items + column[:, None] * DIM + dim[None, :])
        if not CUT.AHEAD:
            rank, more = tl.load(ranks + column), tl.load(bias + column)
        score = tl.dot(q, tl.trans(vectors), input_precision="ieee") + more[None, :]
        score = tl.where(rank[None, :] == own[:, None], _NOTHING, score)
        if CUT.AHEAD:
            rank, more = tl.load(ranks + column + COLUMNS), tl.load(bias + column + COLUMNS)
        top = tl.max(score, axis=1)
        if CUT.LAZY:
            if tl.max(top - highest) > _RISE:
                highest, total, mean = _faded(highest, total, mean, top)
        else:
            highest, total, mean = _faded(highest, total, mean, top)
        share = tl.exp2(score - (highest - _LOG_SCALE)[:, None])
        total += tl.sum(share, axis=1)
        mean = tl.dot(share.to(vectors.dtype), vectors, mean, input_precision="ieee")
    total = total / _SCALE
    own_share = tl.exp2(score_of_own - highest)
    # What little the columns add must not be lost in the digits of 1, nor in those of a large score.
    apart = tl.where(own_share == 1.0, _log_1p(total), tl.log(own_share + total))
    whole = own_share + total
    tl.store(losses + row, (highest - score_of_own) * _LOG_2 + apart, mask=here)
    tl.store(levels + row, tl.where(here, highest + apart * _LOG2_E, float("inf")))
    tl.store(others + row, total / whole, mask=here)
    mean = mean / (whole * _SCALE)[:, None]
    tl.store(grad_query + row[:, None] * DIM + dim[None, :], mean, mask=here[:, None])


@triton.jit
def shared_items_kernel(
    query, items, ranks, bias, count, level, target, weight, pieces, num_positions,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    """A piece of the gradient of COLUMNS item vectors, by some of the positions, ROWS at a time.

    How many columns there are only the device knows: where they are few, more programs share the positions.
    """
    columns = tl.load(count)
    blocks = tl.maximum(tl.cdiv(columns, COLUMNS), 1)
    splits = tl.maximum(PROGRAMS // blocks, 1)
    block, split = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    if split < splits:
        column = block * COLUMNS + tl.arange(0, COLUMNS)
        dim = tl.arange(0, DIM)
        vectors = tl.load(items + column[:, None] * DIM + dim[None, :])
        rank, more = tl.load(ranks + column), tl.load(bias + column)
        gradient = tl.zeros((COLUMNS, DIM), tl.float32)
        each = tl.cdiv(tl.cdiv(num_positions, ROWS), splits) * ROWS
        last = tl.minimum((split + 1) * each, num_positions)
        for first in tl.range(split * each, last, ROWS):
            row = first + tl.arange(0, ROWS)
            q = tl.load(query + row[:, None] * DIM + dim[None, :])
            own, of_row, factor = tl.load(target + row), tl.load(level + row), tl.load(weight + row)
            score = tl.dot(vectors, tl.trans(q), input_precision="ieee") + more[:, None]
            score = tl.where(rank[:, None] == own[None, :], _NOTHING, score)
            share = tl.exp2(score - of_row[None, :]) * factor[None, :]
            gradient = tl.dot(share.to(q.dtype), q, gradient, input_precision="ieee")
        place = tl.program_id(0).to(tl.int64) * COLUMNS * DIM
        inside = tl.arange(0, COLUMNS)
        tl.store(pieces + place + inside[:, None] * DIM + dim[None, :], gradient)


@triton.jit
def shared_sum_kernel(
    pieces, count, place, scale, grad_items,
    DIM: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, PROGRAMS: tl.constexpr,
    SUMMED: tl.constexpr,
):  # fmt: skip
    """The pieces of SUMMED columns added up in order, times a scale, to where the columns come from."""
    columns = tl.load(count)
    blocks = tl.maximum(tl.cdiv(columns, COLUMNS), 1)
    splits = tl.maximum(PROGRAMS // blocks, 1)
    column = tl.program_id(0) * SUMMED + tl.arange(0, SUMMED)
    exists = column < columns
    if tl.program_id(0) * SUMMED < columns:
        dim = tl.arange(0, DIM)
        total = tl.zeros((SUMMED, DIM), tl.float32)
        for split in tl.range(0, splits):
            start = (split * blocks * COLUMNS + column).to(tl.int64) * DIM
            total += tl.load(pieces + start[:, None] + dim[None, :], mask=exists[:, None], other=0.0)
        row = tl.load(place + column, mask=exists, other=0).to(tl.int64)
        inside = exists[:, None] & (dim < WIDTH)[None, :]
        tl.store(grad_items + row[:, None] * WIDTH + dim[None, :], total * tl.load(scale), mask=inside)
