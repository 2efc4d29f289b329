"""Gradients of the two bias tables, without atomics and without a tensor that grows with pairs.

A program goes down one block diagonal of one sequence: all its tiles share `i - j`, so their score gradients
are summed tile on tile, over all heads, and along the diagonals once at the end. Times differ from tile to
tile; each tile, summed over heads, adds one number a bucket that it meets. Each program writes one row of
partial sums; a second kernel adds the rows up in a fixed order.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.triton.bias import buckets, time_range, wide_difference
from models.attention.triton.forward import half_scores
from models.attention.triton.step import VARYING, block_bounds, load_rows, read_tile, silu_and_slope, visible

TIME_COLUMNS = 256
"""Columns of a row of partial sums by bucket, of which 129 are used."""
_TIME_COLUMNS = tl.constexpr(TIME_COLUMNS)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)


@triton.jit
def _add_buckets(sums, dscores, low, high, query_place, key_place, length, times):
    """sums [TIME_COLUMNS] plus the sum of dscores over each bucket."""
    column = tl.arange(0, _TIME_COLUMNS)
    if low == high:
        sums += tl.where(column == low, tl.sum(dscores), 0.0)
    else:
        if high < _LAST_BUCKET:
            found = buckets(query_place, key_place, length, times)
            for number in tl.range(low, high + 1, num_stages=1):
                sums += tl.where(column == number, tl.sum(tl.where(found == number, dscores, 0.0)), 0.0)
        else:
            borders = times[5]
            for number in tl.range(low, high + 1, num_stages=1):
                difference = tl.maximum(wide_difference(query_place, key_place, length, times), 1)
                inside = difference >= tl.load(borders + number)
                inside &= (number == high) | (difference < tl.load(borders + tl.minimum(number + 1, high)))
                sums += tl.where(column == number, tl.sum(tl.where(inside, dscores, 0.0)), 0.0)
    return sums


@triton.jit
def _store_diagonals(target, tile, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """target[KEYS + i - j] = sum of tile[i, j] along diagonals, `QUERIES + KEYS` numbers."""
    i = tl.arange(0, QUERIES)[:, None]
    column = tl.arange(0, KEYS)
    j = (i - column[None, :] + KEYS) % KEYS
    turned = tl.gather(tile, j, axis=1)  # turned[i, c] = tile[i, (i - c) % KEYS]
    turn = (i - j - column[None, :] + KEYS) // KEYS  # i - j = c + KEYS * (turn - 1)
    for number in tl.static_range(0, QUERIES // KEYS + 1):
        tl.store(target + number * KEYS + column, tl.sum(tl.where(turn == number, turned, 0.0), axis=0))


@triton.jit(do_not_specialize=VARYING)
def diagonal_kernel(
    q, k, v, given, position_rows, time_rows, tiles, num_tiles, position, position_size, time, query_time,
    timestamp, seconds, bounds, borders, wide_borders, tokens, num_blocks, q_stride, q_head, k_stride,
    k_head, v_stride,
    v_head, given_stride, given_head, window, half_scale,
    HEADS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a block diagonal (QUERIES // KEYS for each number of a tile) and a share of its tiles."""
    PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
    row = tl.program_id(1)
    start, length, number, blocks = read_tile(tiles, num_tiles, row)
    part = tl.program_id(0) % PARTS
    share = tl.program_id(0) // PARTS
    offset = number * QUERIES - part * KEYS  # i - j of the tiles' first query and key
    count = tl.maximum((length + QUERIES - 1) // QUERIES - number - share + SHARES - 1, 0) // SHARES
    if HAS_WINDOW:
        count = tl.where(offset - KEYS + 1 < window, count, 0)
    q += start * q_stride
    k += start * k_stride
    v += start * v_stride
    given += start * given_stride
    i = tl.arange(0, QUERIES)[:, None]
    j = tl.arange(0, KEYS)[None, :]
    distance = offset + i - j
    over_tiles = tl.zeros((QUERIES, KEYS), tl.float32)
    over_heads = tl.zeros((QUERIES, KEYS), tl.float32)
    sums = tl.zeros((_TIME_COLUMNS,), tl.float32)
    for step in tl.range(0, count * HEADS):
        head = step % HEADS
        first_key = (share + step // HEADS * SHARES) * QUERIES + part * KEYS
        first_query = first_key + offset
        q_tile = load_rows(q + head * q_head, q_stride, first_query, length, QUERIES, QK_DIM, QK_WIDTH, True)
        k_tile = load_rows(k + head * k_head, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, True)
        given_tile = load_rows(
            given + head * given_head, given_stride, first_query, length, QUERIES, V_DIM, V_WIDTH, True
        )
        v_tile = load_rows(v + head * v_head, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, True)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=PRECISION)
        query_place = first_query + i
        key_place = first_key + j
        low, high, base = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)
        times = (seconds, seconds, query_time, timestamp, borders, wide_borders)
        if time is not None:
            times = (
                seconds + start, seconds + tokens + start, query_time + start, timestamp + start, borders,
                wide_borders,
            )  # fmt: skip
            query_least, query_most = block_bounds(bounds + blocks, num_blocks, first_query, length, QUERIES)
            key_bounds = bounds + 2 * num_blocks + blocks
            low, high, base = time_range(
                time, query_least, query_most, key_bounds, num_blocks, first_key, length, KEYS
            )
        half = half_scores(
            products, half_scale, query_place, key_place, length, position, time, base, low, high, times, True
        )
        _, slope = silu_and_slope(half, FAST)
        # Rows past the end have no given gradient: zeros.
        over_heads += tl.where(visible(distance, 0, window, HAS_WINDOW), dweights * slope, 0.0)
        if head == HEADS - 1:
            if position is not None:
                over_tiles += over_heads
            if time is not None:
                sums = _add_buckets(sums, over_heads, low, high, query_place, key_place, length, times)
            over_heads = tl.zeros((QUERIES, KEYS), tl.float32)
    row = (row * PARTS + part) * SHARES + share
    if position is not None:
        _store_diagonals(position_rows + row * (QUERIES + KEYS), over_tiles, QUERIES, KEYS)
    if time is not None:
        tl.store(time_rows + row * _TIME_COLUMNS + tl.arange(0, _TIME_COLUMNS), sums)


@triton.jit(do_not_specialize=VARYING)
def reduce_kernel(
    position_rows, time_rows, dposition, dtime, tiles, num_tiles, position_blocks, position_size, time_size,
    output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add up the rows: a program a block of QUERIES positions, then one for each COLUMNS buckets."""
    program = tl.program_id(0)
    if program < position_blocks:
        if position_rows is not None:
            _reduce_positions(
                position_rows, dposition, tiles, num_tiles, program, position_size, output_scale,
                QUERIES, KEYS, SHARES, ROWS,
            )  # fmt: skip
    else:
        if time_rows is not None:
            PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
            column = (program - position_blocks) * COLUMNS + tl.arange(0, COLUMNS)
            total = tl.zeros((COLUMNS,), tl.float32)
            num_rows = num_tiles * PARTS * SHARES
            for first in tl.range(0, num_rows, 8 * ROWS):
                row = first + tl.arange(0, 8 * ROWS)
                places = time_rows + row[:, None] * _TIME_COLUMNS + column[None, :]
                total += tl.sum(tl.load(places, mask=(row < num_rows)[:, None], other=0.0), axis=0)
            tl.store(dtime + column, total * output_scale, mask=column < time_size)


@triton.jit
def _reduce_positions(
    rows, dposition, tiles, num_tiles, block, position_size, output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Positions of one block meet the block diagonals of that number and of the next."""
    PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
    place = tl.arange(0, QUERIES)
    total = tl.zeros((QUERIES,), tl.float32)
    for first in tl.range(0, num_tiles, ROWS):
        row = first + tl.arange(0, ROWS)
        exists = row < num_tiles
        length = tl.load(tiles + num_tiles + row, mask=exists, other=0)
        number = tl.load(tiles + 2 * num_tiles + row, mask=exists, other=-1)
        for next_one in tl.static_range(2):
            for part in tl.static_range(PARTS):
                # The row's column of a position: KEYS + (i - j) - offset.
                column = KEYS + place - next_one * QUERIES + part * KEYS
                inside = (column >= 0) & (column < QUERIES + KEYS)
                wanted = ((number == block + next_one) & (length > 0))[:, None] & inside[None, :]
                for share in tl.static_range(SHARES):
                    source = ((row * PARTS + part) * SHARES + share) * (QUERIES + KEYS)
                    found = tl.load(rows + source[:, None] + column[None, :], mask=wanted, other=0.0)
                    total += tl.sum(found, axis=0)
    place += block * QUERIES
    tl.store(dposition + place, total * output_scale, mask=place < position_size)
