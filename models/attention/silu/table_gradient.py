"""Gradients of the position and time tables, summed while the queries' gradients are computed.

Sums are 64-bit fixed point: integers can be added in any order, by all programs at once, and come out the
same bit for bit. The scale follows from how large a sum can be: no score's gradient is larger than 1.1 times
the product of the largest norm of a row of the output's gradient and the largest norm of a value (Cauchy and
Schwarz; the slope of silu is below 1.1), and no more of them are added than there are pairs. A program sums
in shared memory first, positions by `shared_window`, times by `time_gradient`.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import NUM_BUCKETS
from models.attention.silu.masking import RICH, keeps_distance, logical_position
from models.attention.silu.shared_sums import flush_shared_sums
from models.attention.silu.shared_window import NOWHERE, add_distances, flush_window
from models.attention.silu.time_gradient import TIME_SUMS, add_times_of_simple_tile, add_times_of_tile

STEEPEST = 1.2
"""Above the slope of silu, also where tanh is wrong by 2^-11."""
LEAST = 1e-15
"""Bounds of a score's gradient below it are taken for it. Squares of lengths below 1e-19 lose digits or are
0: beside a value longer than 10,000 such a gradient may overflow."""
_LEAST = tl.constexpr(LEAST)
_STEEPEST, _NOWHERE = tl.constexpr(STEEPEST), tl.constexpr(NOWHERE)
_BUCKETS, _TIME_SUMS = tl.constexpr(NUM_BUCKETS), tl.constexpr(TIME_SUMS)
_RICH = tl.constexpr(RICH)

# Below, `sums` are `kernel_arguments.TableSums`. `pending` is the tuple (where the window of `shared_window`
# begins, number of tiles in `shared_sums`).


@triton.jit
def to_fixed_point(amount, scale):
    """An amount in int64 units, rounded towards zero."""
    return (amount * scale).to(tl.int64)


@triton.jit
def fixed_point_scale(max_norms, limit):
    """Fixed-point units of 1, given the bits of the largest squared norms of a row of the output's gradient
    and of a value.

    NaN, and so are the gradients of tables, where one of these squares is not finite. What else is not
    finite, q say, is not seen here; it makes the result NaN, and so the gradient given by any loss of it.
    """
    given = tl.load(max_norms).to(tl.float32, bitcast=True)
    value = tl.load(max_norms + 1).to(tl.float32, bitcast=True)
    bound = _STEEPEST * tl.sqrt(given) * tl.sqrt(value)
    scale = limit / tl.maximum(bound, _LEAST)
    # A power of two: the bound then decides only how many digits are cut off.
    power = (scale.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    # 0 * inf is NaN, as wanted.
    return power + 0.0 * bound


@triton.jit
def nothing_pending():
    return tl.full((), _NOWHERE, tl.int32), tl.full((), 0, tl.int32)


@triton.jit
def add_simple_tile(
    pending, dscores, first_query, first_key, query_index, key_index, ends, counts, times, sums,
    WAY: tl.constexpr,
):  # fmt: skip
    """Add the score gradients of a simple tile, and return what is pending; `counts` are of
    `boundary_counts`, and whether there are any."""
    begin, tiles = pending
    if sums.time is not None:
        tiles = add_times_of_simple_tile(
            tiles, dscores, first_query, first_key, query_index, key_index, ends, counts, times, sums, WAY
        )
    if sums.position is not None:
        begin = add_distances(begin, dscores, first_query, first_key, query_index, key_index, sums, WAY)
    return begin, tiles


@triton.jit
def add_tile(
    pending, dscores, first_query, first_key, query_index, key_index, length, rule, span, packed, times, sums,
    MASK: tl.constexpr, WAY: tl.constexpr,
):  # fmt: skip
    """The same of any tile, zeros where a query does not see a key; `packed` are its buckets, if found."""
    begin, tiles = pending
    if sums.time is not None:
        tiles = add_times_of_tile(
            tiles, dscores, first_query, first_key, query_index, key_index, length, span, packed, times, sums,
            WAY,
        )  # fmt: skip
    if sums.position is not None:
        if MASK == _RICH:
            if (first_key < rule.context - 1) | (first_query + query_index.shape[0] - 1 > rule.history):
                _add_out_of_step(sums, dscores, query_index, key_index, rule)
            dscores = tl.where(keeps_distance(query_index, key_index, rule), dscores, 0.0)
        begin = add_distances(begin, dscores, first_query, first_key, query_index, key_index, sums, WAY)
    return begin, tiles


@triton.jit
def flush_sums(pending, sums, WAY: tl.constexpr):
    """Add all that is in shared memory to the sums of the head."""
    if sums.position is not None:
        flush_window(pending[0], sums, WAY)
    if sums.time is not None:
        flush_shared_sums(sums, WAY)


@triton.jit
def _add_out_of_step(sums, dscores, query_index, key_index, rule):
    """Add what candidates and context give to the position table, where many pairs share one distance: sums
    along the tile first, then few additions."""
    nearest = sums.position  # of `i - j = 0`
    shift = rule.context - 1
    context = (query_index <= rule.history) & ((key_index < shift) | (query_index < shift))
    rows = to_fixed_point(tl.sum(tl.where(context, dscores, 0.0), axis=1, keep_dims=True), sums.scale)
    tl.atomic_add(
        nearest + logical_position(query_index, rule), rows, mask=query_index <= rule.history, sem="relaxed"
    )
    candidate = query_index > rule.history
    own = query_index == key_index
    columns = to_fixed_point(
        tl.sum(tl.where(candidate & ~own, dscores, 0.0), axis=0, keep_dims=True), sums.scale
    )
    apart = tl.maximum(logical_position(rule.history, rule) - logical_position(key_index, rule), 0)
    tl.atomic_add(nearest + apart, columns, mask=key_index < rule.history, sem="relaxed")
    total = to_fixed_point(tl.sum(tl.where(candidate & own, dscores, 0.0)), sums.scale)
    tl.atomic_add(nearest, total, sem="relaxed")


@triton.jit
def raise_max_norm(max_norms, rows):
    """Raise `max_norms`, the bits of a number from 0 on, to the square of the longest of the rows `[rows,
    width]`.

    Bits of numbers from 0 on are in the order of the numbers, NaN above them all.
    """
    rows = rows.to(tl.float32)
    square = tl.sum(rows * rows, axis=1)
    tl.atomic_max(max_norms, tl.max(square.to(tl.int32, bitcast=True) & 0x7FFFFFFF), sem="relaxed")


@triton.jit(do_not_specialize=("position_row", "position_size"))
def finalize_kernel(
    position_sums, time_sums, max_norms, dposition, dtime, position_row, position_size, limit, output_scale,
    POSITION_ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From fixed point to float32: a program for each BLOCK positions of a row, then one a bucket."""
    unit_value = output_scale / fixed_point_scale(max_norms, limit)
    blocks = (position_size + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    if program < POSITION_ROWS * blocks:
        if position_sums is not None:
            row = (program // blocks).to(tl.int64)
            position = program % blocks * BLOCK + tl.arange(0, BLOCK)
            exists = position < position_size
            found = position_sums + row * position_row + position
            found = tl.load(found, mask=exists, other=0).to(tl.float32)
            tl.store(dposition + row * position_size + position, found * unit_value, mask=exists)
    else:
        if time_sums is not None:
            bucket = program - POSITION_ROWS * blocks  # of all rows, one after the other
            total = tl.load(time_sums + bucket // _BUCKETS * _TIME_SUMS + bucket % _BUCKETS)
            tl.store(dtime + bucket, total.to(tl.float32) * unit_value)
