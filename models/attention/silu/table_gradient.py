"""Gradients of the position and time tables, summed while the queries' gradients are computed.

Sums are 64-bit fixed point: integers can be added in any order, by all programs at once, and come out the
same bit for bit. The scale follows from how large a sum can be: no score's gradient is larger than 1.1 times
the product of the largest norm of a row of the output's gradient and the largest norm of a value (Cauchy and
Schwarz; the slope of silu is below 1.1), and no more of them are added than there are pairs. A tile of 64 x
64 adds 64 sums a stripe of 16 rows to the position table; `time_gradient` says what it adds to the time
table.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806, RUF005 (Triton's tuples can be added, not unpacked into one)

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import NUM_BUCKETS
from models.attention.silu.diagonals import STRIPE, add_rows, block_diagonals, diagonals
from models.attention.silu.masking import RICH, keeps_distance, logical_position
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_bias import lowest_and_highest, pair_buckets
from models.attention.silu.time_gradient import (
    BAND,
    TIME_SUMS,
    add_beyond_few,
    add_beyond_of_pairs,
    add_lowest,
    band_begin,
    finalize_bucket,
    flush_lowest,
    store_in_band,
    to_fixed_point,
)

BEFORE = 136
"""Numbers of a row of position sums before that of the nearest tokens, `i - j = 1`: tiles send sums, all of
them zero, for pairs whose key is ahead. A multiple of 8, so that each 8 sums lie in one piece of memory."""
BEHIND = 144
"""Numbers after that of the farthest tokens: tiles reach past the end of a sequence."""
STEEPEST = 1.2
"""Above the slope of silu, also where tanh is wrong by 2^-11."""
LEAST = 1e-15
"""Bounds of a score's gradient below it are taken for it. Squares of lengths below 1e-19 lose digits or are
0: beside a value longer than 10,000 such a gradient may overflow."""
_LEAST = tl.constexpr(LEAST)
_BEFORE, _STEEPEST = tl.constexpr(BEFORE), tl.constexpr(STEEPEST)
_STRIPE, _BUCKETS = tl.constexpr(STRIPE), tl.constexpr(NUM_BUCKETS)
_TIME_SUMS, _BAND = tl.constexpr(TIME_SUMS), tl.constexpr(BAND)
_RICH = tl.constexpr(RICH)

# Below, `sums` are `kernel_arguments.TableSums`. `pending` is what a program
# has not sent yet: the tuple (two parts of `diagonals` that the next tile of keys adds to, sum of tiles of
# the same lowest bucket in parts `[stripes, 8, 8]`, that bucket).


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
def nothing_pending(sums, QUERIES: tl.constexpr):
    zero = tl.full((), 0, tl.int32)
    first, second, rest = zero, zero, zero
    if sums.position is not None:
        first = tl.zeros((QUERIES // _STRIPE, 8, 8), tl.float32)
        second = tl.zeros((QUERIES // _STRIPE, 8, 8), tl.float32)
    if sums.time is not None:
        rest = tl.zeros((QUERIES // _STRIPE, 8, 8), tl.float32)
    return first, second, rest, zero


@triton.jit
def add_simple_tile(pending, dscores, first_query, first_key, ends, counts, sums):
    """Add the score gradients of a simple tile, and return what is pending.

    Tiles of keys must follow each other without a gap, until `flush_positions`; `counts` are of
    `boundary_counts`.
    """
    first, second, rest, bucket = pending
    blocks = block_diagonals(dscores)
    if sums.time is not None:
        rest, bucket = add_lowest(rest, bucket, blocks, ends, sums.time, sums.scale)
        low, high = lowest_and_highest(ends)
        # Within an `if`: the compiler reads no tiles ahead in a loop that holds another loop directly.
        if high > low:
            add_beyond_few(dscores, low, high, counts, first_query, first_key, sums.time, sums.scale)
    if sums.position is not None:
        first, second = _add_positions(first, second, blocks, first_query - first_key, sums)
    return first, second, rest, bucket


@triton.jit
def add_tile(
    pending, dscores, first_query, first_key, query_index, key_index, length, rule, ends, times, sums,
    MASK: tl.constexpr,
):  # fmt: skip
    """Add any tile's score gradients, zeros where a query does not see a key, and return what is held: of
    positions nothing."""
    first, second, rest, bucket = pending
    blocks = block_diagonals(dscores)
    if sums.time is not None:
        column = first_key - band_begin(first_query)
        if (column >= 0) & (column < _BAND):
            store_in_band(sums.band, dscores, first_query, column, length, sums.band_scale)
        else:
            rest, bucket = add_lowest(rest, bucket, blocks, ends, sums.time, sums.scale)
            low, high = lowest_and_highest(ends)
            if high > low:
                found = tie(pair_buckets(query_index, key_index, length, times), dscores)
                add_beyond_of_pairs(dscores, found, low, high, sums.time, sums.scale)
    if sums.position is not None:
        if MASK == _RICH:
            steady = keeps_distance(query_index, key_index, rule)
            blocks = block_diagonals(tl.where(steady, dscores, 0.0))
            if (first_key < rule.context - 1) | (first_query + query_index.shape[0] - 1 > rule.history):
                _add_out_of_step(sums, dscores, query_index, key_index, rule)
        first, second = _add_positions(first, second, blocks, first_query - first_key, sums)
        _add_atomically((first, second), first_query - first_key - key_index.shape[1], sums)
        first = tl.zeros_like(first)
        second = tl.zeros_like(second)
    return first, second, rest, bucket


@triton.jit
def flush_positions(pending, apart, sums):
    """Add what is pending of positions after a range of simple tiles; `apart` is the index of the first query
    less that of the first key past the run."""
    if sums.position is not None:
        _add_atomically((pending[0], pending[1]), apart, sums)
        return tl.zeros_like(pending[0]), tl.zeros_like(pending[1]), pending[2], pending[3]
    else:
        return pending


@triton.jit
def flush_times(pending, sums):
    """Add what is pending of times."""
    if sums.time is not None:
        flush_lowest(pending[2], pending[3], sums.time, sums.scale)


@triton.jit
def _add_positions(first, second, blocks, apart, sums):
    """Add all sums but the last two, which lie where the next tile of keys begins, to memory."""
    parts = diagonals(blocks)
    BLOCKS: tl.constexpr = len(parts) - 2
    ready = (parts[0] + first, parts[1] + second)
    for number in tl.static_range(2, BLOCKS):
        ready = ready + (parts[number],)
    _add_atomically(ready, apart, sums)
    return parts[BLOCKS], parts[BLOCKS + 1]


@triton.jit
def _add_atomically(parts, apart, sums):
    """Add 2, 4 or 8 parts of `diagonals` to the position sums."""
    COUNT: tl.constexpr = len(parts)
    EACH: tl.constexpr = 8 // COUNT
    total, row, stripe, column = _totals(parts)
    place = (
        sums.position
        + tl.multiple_of(apart + _BEFORE, 8)
        + (_STRIPE * stripe + 8 * (1 - row // EACH) + column)
    )
    if COUNT == 8:
        tl.atomic_add(place, to_fixed_point(total, sums.scale), sem="relaxed")
    else:
        tl.atomic_add(place, to_fixed_point(total, sums.scale), mask=row % EACH == 0, sem="relaxed")


@triton.jit
def _totals(parts):
    """`[8, stripes, 8]`, the sums of `add_rows`, and places along each axis. The compiler takes the first
    axis for that of neighbouring threads, as here it is: else it would turn the numbers around in memory."""
    total = tl.permute(add_rows(parts), (1, 0, 2))
    row = tl.arange(0, 8)[:, None, None]
    stripe = tl.arange(0, total.shape[1])[None, :, None]
    return total, row, stripe, tl.arange(0, 8)[None, None, :]


@triton.jit
def _add_out_of_step(sums, dscores, query_index, key_index, rule):
    """Add what candidates and context give to the position table, where many pairs share one distance: sums
    along the tile first, then few additions."""
    nearest = sums.position + (_BEFORE - 1)  # of `i - j = 0`
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
            found = position_sums + row * position_row + (_BEFORE - 1) + position
            found = tl.load(found, mask=exists, other=0).to(tl.float32)
            tl.store(dposition + row * position_size + position, found * unit_value, mask=exists)
    else:
        if time_sums is not None:
            bucket = program - POSITION_ROWS * blocks  # of all rows, one after the other
            of_head = time_sums + bucket // _BUCKETS * _TIME_SUMS
            tl.store(dtime + bucket, finalize_bucket(of_head, bucket % _BUCKETS) * unit_value)
