"""Scores of drawn rows, and their gradients; sums are in float32.

A draw is the place of a number in `rows`, [positions, count]: position `draw // COUNT` drew the row.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

_PIECES = tl.constexpr(8)  # that are read at once


@triton.jit
def scores_kernel(
    query, table, rows, scores,
    COUNT: tl.constexpr, DIM: tl.constexpr, QUERY_STRIDE: tl.constexpr, TABLE_STRIDE: tl.constexpr,
    DRAWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A program a position and DRAWS of its rows, of which it reads COLUMNS at a time."""
    position = tl.program_id(0).to(tl.int64)
    draw = tl.program_id(1) * DRAWS + tl.arange(0, DRAWS)
    exists = draw < COUNT
    row = tl.load(rows + position * COUNT + draw, mask=exists, other=0)
    column = tl.arange(0, COLUMNS)
    query += position * QUERY_STRIDE
    places = table + row[:, None] * TABLE_STRIDE + column[None, :]
    total = tl.zeros((DRAWS, COLUMNS), tl.float32)
    for first in tl.range(0, DIM, COLUMNS):
        inside = first + column < DIM
        factor = tl.load(query + first + column, mask=inside, other=0.0).to(tl.float32)
        found = tl.load(places + first, mask=exists[:, None] & inside[None, :], other=0.0).to(tl.float32)
        total += factor[None, :] * found
    tl.store(scores + position * COUNT + draw, tl.sum(total, axis=1), mask=exists)


@triton.jit
def query_gradient_kernel(
    grad, table, rows, grad_query,
    COUNT: tl.constexpr, DIM: tl.constexpr, TABLE_STRIDE: tl.constexpr,
    DRAWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A program a position and COLUMNS of its gradient: its rows, weighted by the scores' gradients."""
    position = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < DIM
    total = tl.zeros((COLUMNS,), tl.float32)
    for first in tl.range(0, COUNT, DRAWS):
        draw = first + tl.arange(0, DRAWS)
        exists = draw < COUNT
        row = tl.load(rows + position * COUNT + draw, mask=exists, other=0)
        weight = tl.load(grad + position * COUNT + draw, mask=exists, other=0.0).to(tl.float32)
        places = table + row[:, None] * TABLE_STRIDE + column[None, :]
        found = tl.load(places, mask=exists[:, None] & inside[None, :], other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * found, axis=0)
    tl.store(grad_query + position * DIM + column, total, mask=inside)


@triton.jit
def _sum_of_draws(
    order, first, last, grad, query, column, inside,
    COUNT: tl.constexpr, QUERY_STRIDE: tl.constexpr, DRAWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """[COLUMNS] of the queries of draws `order[first:last]`, weighted by their gradients."""
    total = tl.zeros((COLUMNS,), tl.float32)
    number = tl.arange(0, DRAWS)
    for start in tl.range(first, last, DRAWS):
        # Not `start + number < last`, for which the compiler keeps a 64-bit counter of each number.
        exists = number < last - start
        draw = tl.load(order + start + number, mask=exists, other=0).to(tl.int32)
        weight = tl.load(grad + draw, mask=exists, other=0.0).to(tl.float32)
        position = (draw // COUNT).to(tl.int64)
        places = query + position[:, None] * QUERY_STRIDE + column[None, :]
        found = tl.load(places, mask=exists[:, None] & inside[None, :], other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * found, axis=0)
    return total


@triton.jit
def further_pieces_kernel(
    order, row_of, starts, grad, query, pieces,
    COUNT: tl.constexpr, DIM: tl.constexpr, QUERY_STRIDE: tl.constexpr,
    DRAWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sums over what a block of BLOCK sorted draws holds of a row whose draws began in an earlier block.

    A program a block but the first; `pieces[block - 1]` is written only where there is such a row.
    """
    block = tl.program_id(0) + 1
    first = block * BLOCK
    row = tl.load(row_of + first).to(tl.int64)
    if row == tl.load(row_of + first - 1).to(tl.int64):
        last = tl.minimum(tl.load(starts + row + 1), first + BLOCK)
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        inside = column < DIM
        total = _sum_of_draws(
            order, first, last, grad, query, column, inside, COUNT, QUERY_STRIDE, DRAWS, COLUMNS
        )
        tl.store(pieces + (block - 1).to(tl.int64) * DIM + column, total, mask=inside)


@triton.jit
def table_gradient_kernel(
    order, starts, grad, query, pieces, grad_table,
    COUNT: tl.constexpr, DIM: tl.constexpr, QUERY_STRIDE: tl.constexpr,
    DRAWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program a row of the table: the sum over its draws in their first block, and its further pieces."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < DIM
    first = tl.load(starts + row)
    last = tl.load(starts + row + 1)
    block = first // BLOCK
    end = tl.minimum(last, (block + 1) * BLOCK)
    total = _sum_of_draws(order, first, end, grad, query, column, inside, COUNT, QUERY_STRIDE, DRAWS, COLUMNS)
    num_blocks = (last + BLOCK - 1) // BLOCK
    number = tl.arange(0, _PIECES)
    for start in tl.range(block, num_blocks - 1, _PIECES):
        exists = number < num_blocks - 1 - start
        places = pieces + tl.cast(start, tl.int64) * DIM + number[:, None] * DIM + column[None, :]
        total += tl.sum(tl.load(places, mask=exists[:, None] & inside[None, :], other=0.0), axis=0)
    tl.store(grad_table + row * DIM + column, total, mask=inside)
