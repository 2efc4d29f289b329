"""Gradients of the two bias tables, without atomics but where a mask has a context or candidates.

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

from models.attention.triton.bias import (
    ONE,
    PAIRS,
    WIDE,
    add_bias,
    buckets,
    half_scores,
    lowest_and_highest,
    outlook,
    reach,
    read_seconds,
    wide_buckets,
)
from models.attention.triton.reads import read
from models.attention.triton.sight import RICH, WINDOW, in_step, read_rule, stand, visible
from models.attention.triton.step import VARYING, activate_with_slope, block_bounds, load_rows, read_tile

TIME_COLUMNS = 256
"""Columns of a row of partial sums by bucket, of which 129 are used."""
_TIME_COLUMNS = tl.constexpr(TIME_COLUMNS)
_ONE, _PAIRS, _WIDE = tl.constexpr(ONE), tl.constexpr(PAIRS), tl.constexpr(WIDE)
_WINDOW = tl.constexpr(WINDOW)
_RICH = tl.constexpr(RICH)


@triton.jit
def _add_buckets(sums, dscores, span, first_query, first_key, query_place, key_place, length, times):
    """sums [TIME_COLUMNS] plus the sum of dscores over each bucket."""
    column = tl.arange(0, _TIME_COLUMNS)
    way, ends, _ = span
    low, high = lowest_and_highest(ends)
    if way == _ONE:
        sums += tl.where(column == low, tl.sum(dscores), 0.0)
    elif way < _PAIRS:
        query, key = read_seconds(first_query, first_key, query_place, key_place, length, times, True)
        # From the greatest bucket down, each takes what its border reaches of the rest.
        for below in tl.range(0, high - low, num_stages=1):
            number = high - below
            reached = reach(query, key, tl.load(times[4] + number))
            sums += tl.where(column == number, tl.sum(tl.where(reached, dscores, 0.0)), 0.0)
            dscores = tl.where(reached, 0.0, dscores)
        sums += tl.where(column == low, tl.sum(dscores), 0.0)
    elif way < _WIDE:
        found = buckets(first_query, first_key, query_place, key_place, length, times, True)
        sums = _add_pairs(sums, dscores, found, low, high)
    else:
        sums = _add_pairs(sums, dscores, wide_buckets(query_place, key_place, length, times), low, high)
    return sums


@triton.jit
def _add_pairs(sums, dscores, found, low, high):
    """sums plus the sum of dscores over each bucket from low to high, given the bucket of each pair."""
    column = tl.arange(0, _TIME_COLUMNS)
    for number in tl.range(low, high + 1, num_stages=1):
        sums += tl.where(column == number, tl.sum(tl.where(found == number, dscores, 0.0)), 0.0)
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


@triton.jit
def _count_steps(
    offset, share, number, length, rule, QUERIES, KEYS, SHARES: tl.constexpr, MASK: tl.constexpr
):
    """How many tiles of a block diagonal a share has that any query may see."""
    tiles = (length + QUERIES - 1) // QUERIES - number
    if MASK == _WINDOW:
        tiles = tl.where(offset - KEYS + 1 < rule[0], tiles, 0)
    if MASK == _RICH:
        # Candidates and context stand nearer than their places are. Far diagonals begin with the front.
        near = offset - KEYS + 1 < rule[0] + length - rule[3] + rule[2]
        tiles = tl.where(near, tiles, tl.minimum(tiles, (rule[1] + QUERIES - 1) // QUERIES))
    return tl.maximum(tiles - share + SHARES - 1, 0) // SHARES


@triton.jit
def _add_out_of_step(crowded, dscores, query_place, key_place, rule):
    """Add what candidates and context give to the position table, where many pairs share one distance.

    `crowded` is the table's gradient over `p(i) - p(j)`. Sums along the tile first, then few atomics.
    """
    shift = rule[2] - 1
    context = (query_place <= rule[3]) & ((key_place < shift) | (query_place < shift))
    rows = tl.sum(tl.where(context, dscores, 0.0), axis=1, keep_dims=True)
    tl.atomic_add(crowded + stand(query_place, rule), rows, mask=query_place <= rule[3])
    candidate = query_place > rule[3]
    own = query_place == key_place
    columns = tl.sum(tl.where(candidate & (query_place != key_place), dscores, 0.0), axis=0, keep_dims=True)
    history = key_place < rule[3]
    end = stand(rule[3], rule)
    tl.atomic_add(crowded + tl.maximum(end - stand(key_place, rule), 0), columns, mask=history)
    tl.atomic_add(crowded, tl.sum(tl.where(candidate & own, dscores, 0.0)))


@triton.jit(do_not_specialize=VARYING)
def diagonal_kernel(
    q, k, v, given, position_rows, crowded, time_rows, tiles, num_tiles, rules, num_sequences, position,
    position_head, position_size, time, time_head, amount, rate, decay_head, query_time, timestamp, seconds,
    bounds, borders, wide_borders, tokens, num_blocks, q_stride, q_head, k_stride, k_head, v_stride, v_head,
    given_stride, given_head, window, front, context, half_scale, output_scale,
    HEADS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    SHARES: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a block diagonal (QUERIES // KEYS for each number of a tile), a share of its tiles, and a
    table: of all HEADS heads, or of one."""
    PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
    tile = tl.program_id(1)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tile)
    part = tl.program_id(0) % PARTS
    share = tl.program_id(0) // PARTS % SHARES
    table = tl.program_id(0) // (PARTS * SHARES)
    offset = number * QUERIES - part * KEYS  # i - j of the tiles' first query and key
    rule, row = read_rule(rules, num_sequences, sequence, start, length, window, front, context, MASK)
    count = _count_steps(offset, share, number, length, rule, QUERIES, KEYS, SHARES, MASK)
    q += row * q_stride
    k += start * k_stride
    v += start * v_stride
    given += row * given_stride
    times = (seconds, seconds, query_time, timestamp, borders, wide_borders)
    if seconds is not None:
        times = (
            seconds + start, seconds + tokens + start, query_time + start, timestamp + start, borders,
            wide_borders,
        )  # fmt: skip
    i = tl.arange(0, QUERIES)[:, None]
    j = tl.arange(0, KEYS)[None, :]
    distance = offset + i - j
    placed = None
    if position is not None:  # noqa: SIM102
        # Read once: the tiles share `i - j`, and heads have a table each only where a program has one head.
        if MASK != _RICH:
            within = tl.maximum(tl.minimum(distance, length - 1), 0)
            placed = read(position + table * HEADS * position_head, within)
    over_tiles = tl.zeros((QUERIES, KEYS), tl.float32)
    over_heads = tl.zeros((QUERIES, KEYS), tl.float32)
    sums = tl.zeros((_TIME_COLUMNS,), tl.float32)
    for step in tl.range(0, count * HEADS):
        head = table * HEADS + step % HEADS
        first_key = (share + step // HEADS * SHARES) * QUERIES + part * KEYS
        first_query = first_key + offset
        q_tile = load_rows(
            q + head * q_head, q_stride, first_query, length, QUERIES, QK_DIM, QK_WIDTH, True, rule[4]
        )
        k_tile = load_rows(k + head * k_head, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, True)
        given_tile = load_rows(
            given + head * given_head,
            given_stride,
            first_query,
            length,
            QUERIES,
            V_DIM,
            V_WIDTH,
            True,
            rule[4],
        )
        v_tile = load_rows(v + head * v_head, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, True)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=PRECISION)
        query_place = first_query + i
        key_place = first_key + j
        query_least = 0
        query_most = 0
        key_bounds = bounds
        own_position, own_time, own_amount, own_rate = position, time, amount, rate
        if position is not None:
            own_position = position + head * position_head
        if time is not None:
            own_time = time + head * time_head
            query_least, query_most = block_bounds(bounds + blocks, num_blocks, first_query, length, QUERIES)
            key_bounds = bounds + 2 * num_blocks + blocks
        if amount is not None:
            own_amount = amount + head * decay_head
            own_rate = rate + head * decay_head
        span = outlook(
            own_time, query_least, query_most, key_bounds, num_blocks, first_key, length, True, KEYS
        )
        if MASK == _RICH:
            half = half_scores(
                products, half_scale, first_query, first_key, query_place, key_place, length, rule,
                own_position, own_time, span, own_amount, own_rate, times, POWER, MASK, True,
            )  # fmt: skip
        else:
            half = add_bias(
                products * half_scale, placed, first_query, first_key, query_place, key_place, length,
                own_time, span, own_amount, own_rate, times, POWER, True,
            )  # fmt: skip
        _, slope = activate_with_slope(half, IDENTITY, FAST)
        # Rows past the end have no given gradient: zeros.
        if MASK == _RICH:
            seen = visible(query_place, key_place, rule, MASK)
        else:
            seen = visible(distance, 0, rule, MASK)
        over_heads += tl.where(seen, dweights * slope, 0.0)
        if step % HEADS == HEADS - 1:
            if position is not None:
                if MASK == _RICH:
                    steady = in_step(query_place, key_place, rule)
                    over_tiles += tl.where(steady, over_heads, 0.0)
                    if (first_key < rule[2] - 1) | (first_query + QUERIES - 1 > rule[3]):
                        _add_out_of_step(
                            crowded + table * position_size, over_heads * output_scale, query_place,
                            key_place, rule,
                        )  # fmt: skip
                else:
                    over_tiles += over_heads
            if time is not None:
                sums = _add_buckets(
                    sums, over_heads, span, first_query, first_key, query_place, key_place, length, times
                )
            over_heads = tl.zeros((QUERIES, KEYS), tl.float32)
    # Rows of a table lie together: [tables, tiles, parts, shares].
    out = tl.cast(table * num_tiles + tile, tl.int64) * (PARTS * SHARES) + part * SHARES + share
    if position is not None:
        _store_diagonals(position_rows + out * (QUERIES + KEYS), over_tiles, QUERIES, KEYS)
    if time is not None:
        tl.store(time_rows + out * _TIME_COLUMNS + tl.arange(0, _TIME_COLUMNS), sums)


@triton.jit(do_not_specialize=VARYING)
def reduce_kernel(
    position_rows, time_rows, dposition, dtime, tiles, num_tiles, position_blocks, position_size, time_size,
    output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Add up the rows of each table: a program for each COLUMNS positions, then one for as many buckets."""
    PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
    program = tl.program_id(0)
    num_rows = num_tiles * PARTS * SHARES
    table = tl.program_id(1).to(tl.int64)
    if position_rows is not None:
        position_rows += table * num_rows * (QUERIES + KEYS)
        dposition += table * position_size
    if time_rows is not None:
        time_rows += table * num_rows * _TIME_COLUMNS
        dtime += table * time_size
    if program < position_blocks:
        if position_rows is not None:
            _reduce_positions(
                position_rows, dposition, tiles, num_tiles, program, position_size, output_scale,
                QUERIES, KEYS, SHARES, ROWS, COLUMNS,
            )  # fmt: skip
    else:
        if time_rows is not None:
            column = (program - position_blocks) * COLUMNS + tl.arange(0, COLUMNS)
            total = tl.zeros((COLUMNS,), tl.float32)
            for first in tl.range(0, num_rows, ROWS):
                row = first + tl.arange(0, ROWS)
                places = time_rows + row[:, None] * _TIME_COLUMNS + column[None, :]
                total += tl.sum(tl.load(places, mask=(row < num_rows)[:, None], other=0.0), axis=0)
            tl.store(dtime + column, total * output_scale, mask=column < time_size)


@triton.jit
def _reduce_positions(
    rows, dposition, tiles, num_tiles, program, position_size, output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, SHARES: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Positions of one block of QUERIES meet the block diagonals of that number and of the next."""
    PARTS: tl.constexpr = QUERIES // KEYS  # noqa: N806
    block = program * COLUMNS // QUERIES
    place = program * COLUMNS % QUERIES + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
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
