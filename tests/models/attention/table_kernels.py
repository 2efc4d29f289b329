"""Kernels that do nothing but call one function of `table_gradient`, for tests of these.

Tiles go through a product with the identity, for the layout of the matrix units: whole numbers below 2^11
stay what they are.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.kernel_arguments import MaskRule, TableSums, TimeColumns
from models.attention.silu.shared_sums import begin_shared_sums, shared_sums_scale
from models.attention.silu.table_gradient import (
    add_simple_tile,
    add_tile,
    fixed_point_scale,
    flush_sums,
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
def scale_kernel(most, limit, scale):
    """`fixed_point_scale`."""
    tl.store(scale, fixed_point_scale(most, limit))


@triton.jit
def longest_kernel(most, rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`raise_max_norm` of `[ROWS, COLUMNS]`."""
    row = tl.arange(0, ROWS)[:, None]
    raise_max_norm(most, tl.load(rows + row * COLUMNS + tl.arange(0, COLUMNS)[None, :]))


@triton.jit
def _sums(position_sums, time_sums, most, limit, anything, WAY: tl.constexpr):
    scale = fixed_point_scale(most, limit)
    shared = begin_shared_sums(anything, WAY)
    return scale, shared, shared_sums_scale(scale, limit, WAY)


@triton.jit(do_not_specialize=("apart", "ordered"))
def run_kernel(
    scores, position_sums, time_sums, most, limit, counts, ordered, seconds, boundaries, ends, apart, count,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WAY: tl.constexpr,
):  # fmt: skip
    """Adds `scores`, [ROWS, count * COLUMNS], as a run of tiles of keys, the first `apart` places before the
    queries. `counts` are rows of `boundary_counts.count_keys_beyond`, `seconds` of all places twice, as of
    queries and of keys, and `ends` of each tile."""
    scale, shared, shared_scale = _sums(position_sums, time_sums, most, limit, apart, WAY)
    sums = TableSums(position_sums, time_sums, scale, shared, shared_scale)
    times = TimeColumns(seconds, seconds + apart + ROWS, seconds, seconds, boundaries, boundaries, None)
    query_index = apart + tl.arange(0, ROWS)[:, None]
    pending = nothing_pending()
    for number in tl.range(0, count, num_stages=1):
        first = number * COLUMNS
        key_index = first + tl.arange(0, COLUMNS)[None, :]
        tile = _load_tile(scores, count * COLUMNS, 0, first, ROWS, COLUMNS)
        pending = add_simple_tile(
            pending, tile, apart, first, query_index, key_index, tl.load(ends + number),
            (counts, ordered > 0), times, sums, WAY,
        )  # fmt: skip
    flush_sums(pending, sums, WAY)


@triton.jit(do_not_specialize=("first", "context", "history", "ends"))
def tiles_kernel(
    scores, position_sums, time_sums, most, limit, seconds, query_time, timestamp, boundaries,
    wide_boundaries, ends, first, length, context, history, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    MASK: tl.constexpr, WAY: tl.constexpr,
):  # fmt: skip
    """Adds `scores`, [rows, length], of all keys and the queries from place `first` on, tile by tile, whose
    pairs each find their bucket; `seconds` as in `run_kernel`, of `first + rows` places."""
    scale, shared, shared_scale = _sums(position_sums, time_sums, most, limit, first, WAY)
    sums = TableSums(position_sums, time_sums, scale, shared, shared_scale)
    times = TimeColumns(seconds, seconds, query_time, timestamp, boundaries, wide_boundaries, None)
    if time_sums is not None:
        times = TimeColumns(
            seconds,
            seconds + first + ROWS,
            query_time,
            timestamp,
            boundaries,
            wide_boundaries,
            boundaries,  # of near pairs, of which there are none
        )
    rule = MaskRule(1 << 30, 0, context, history, 0)
    first_row = tl.program_id(0) * ROWS
    first_query = first + first_row
    query_place = (first_query + tl.arange(0, ROWS))[:, None]
    pending = nothing_pending()
    for first_key in tl.range(0, length, COLUMNS, num_stages=1):
        key_place = (first_key + tl.arange(0, COLUMNS))[None, :]
        tile = _load_tile(scores, length, first_row, first_key, ROWS, COLUMNS)
        pending = add_tile(
            pending, tile, first_query, first_key, query_place, key_place, first + length, rule,
            (2, ends, 0.0), None, times, sums, MASK, WAY,
        )  # fmt: skip
    flush_sums(pending, sums, WAY)
