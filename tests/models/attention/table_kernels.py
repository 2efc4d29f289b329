"""Kernels that do nothing but call one function of `diagonals` or `table_gradient`, for tests of these.

Tiles go through a product with the identity, for the layout of the matrix units: whole numbers below 2^11
stay what they are.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.diagonals import add_rows, block_diagonals, diagonals
from models.attention.silu.kernel_arguments import MaskRule, TableSums, TimeColumns
from models.attention.silu.table_gradient import (
    add_simple_tile,
    add_tile,
    fixed_point_scale,
    flush_positions,
    flush_times,
    nothing_pending,
    raise_max_norm,
)


@triton.jit
def _load_tile(scores, stride, first_query, first_key, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    tile = tl.load(scores + (first_query + row) * stride + first_key + tl.arange(0, COLUMNS)[None, :])
    identity = (row == tl.arange(0, ROWS)[None, :]).to(tl.float32)
    return tl.dot(identity, tile)


@triton.jit
def _block_places(number, STRIPES: tl.constexpr):
    """Where the number-th of `[count, stripes, 8, 8]` lies."""
    stripe = tl.arange(0, STRIPES)[:, None, None]
    row = tl.arange(0, 8)[None, :, None]
    return ((number * STRIPES + stripe) * 8 + row) * 8 + tl.arange(0, 8)[None, None, :]


@triton.jit
def diagonals_kernel(tile, blocks, turned, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`block_diagonals` of a tile, and `diagonals` of these."""
    found = block_diagonals(_load_tile(tile, COLUMNS, 0, 0, ROWS, COLUMNS))
    for number in tl.static_range(len(found)):
        tl.store(blocks + _block_places(number, ROWS // 16), found[number])
    parts = diagonals(found)
    for number in tl.static_range(len(parts)):
        tl.store(turned + _block_places(number, ROWS // 16), parts[number])


@triton.jit
def add_rows_kernel(parts, total, STRIPES: tl.constexpr, COUNT: tl.constexpr):
    """`add_rows` of `[COUNT, STRIPES, 8, 8]`."""
    found = (tl.load(parts + _block_places(0, STRIPES)),)
    for number in tl.static_range(1, COUNT):
        found = found + (tl.load(parts + _block_places(number, STRIPES)),)  # noqa: RUF005
    tl.store(total + _block_places(0, STRIPES), add_rows(found))


@triton.jit
def scale_kernel(most, limit, scale):
    """`fixed_point_scale`."""
    tl.store(scale, fixed_point_scale(most, limit))


@triton.jit
def longest_kernel(most, rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`raise_max_norm` of `[ROWS, COLUMNS]`."""
    row = tl.arange(0, ROWS)[:, None]
    raise_max_norm(most, tl.load(rows + row * COLUMNS + tl.arange(0, COLUMNS)[None, :]))


@triton.jit
def run_kernel(
    scores, position_sums, time_sums, most, limit, counts, ends, apart, count,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Adds `scores`, [ROWS, count * COLUMNS], as a run of tiles of keys, the first `apart` places before the
    queries. `counts` are rows of `crossings.count_keys_beyond`, and `ends` of each tile."""
    sums = TableSums(position_sums, time_sums, fixed_point_scale(most, limit), None, 0.0)
    pending = nothing_pending(sums, ROWS)
    for number in tl.range(0, count):
        first = number * COLUMNS
        tile = _load_tile(scores, count * COLUMNS, 0, first, ROWS, COLUMNS)
        pending = add_simple_tile(pending, tile, apart, first, tl.load(ends + number), counts, sums)
    pending = flush_positions(pending, apart - count * COLUMNS, sums)
    flush_times(pending, sums)


@triton.jit(do_not_specialize=("first", "context", "history"))
def tiles_kernel(
    scores, position_sums, time_sums, band, most, limit, query_time, timestamp, boundaries, first, length,
    context, history, ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """Adds `scores`, [rows, length], of all keys and the queries from place `first` on, tile by tile."""
    sums = TableSums(position_sums, time_sums, fixed_point_scale(most, limit), band, 1.0)
    times = TimeColumns(boundaries, boundaries, query_time, timestamp, boundaries, boundaries, None)
    rule = MaskRule(1 << 30, 0, context, history, 0)
    first_row = tl.program_id(0) * ROWS
    first_query = first + first_row
    query_place = (first_query + tl.arange(0, ROWS))[:, None]
    pending = nothing_pending(sums, ROWS)
    for first_key in tl.range(0, length, COLUMNS):
        key_place = (first_key + tl.arange(0, COLUMNS))[None, :]
        tile = _load_tile(scores, length, first_row, first_key, ROWS, COLUMNS)
        pending = add_tile(
            pending, tile, first_query, first_key, query_place, key_place, first + length, rule, 128, times,
            sums, MASK,
        )  # fmt: skip
    flush_times(pending, sums)
