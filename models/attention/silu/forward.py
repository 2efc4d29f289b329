"""Forward: one program a tile of queries and a head, all keys that the tile sees one tile after the other."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import from_token, half_scores, outlook
from models.attention.silu.crossings import counts_of
from models.attention.silu.runs import after_reads, find_run, half_run_scores, no_spans, read_ahead
from models.attention.silu.sight import count_all, join, key_ranges, place_of, read_rule, visible
from models.attention.silu.step import (
    VARYING,
    activate,
    block_bounds,
    load_rows,
    read_tile,
    settled,
    store_rows,
)


@triton.jit
def _add_tile(
    total, q_tile, k, v, k_stride, v_stride, first_query, first_key, length, rule,
    half_scale, position, time, span, amount, rate, times,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr,
    MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of keys, with the mask."""
    query_place = (first_query + tl.arange(0, q_tile.shape[0]))[:, None]
    key_place = (first_key + tl.arange(0, KEYS))[None, :]
    k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, True, KNOWN=True)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, first_query, first_key, query_place, key_place, length, rule, position,
        time, span, amount, rate, times, POWER, MASK, True,
    )  # fmt: skip
    weights = activate(half, IDENTITY, FAST)
    weights = tl.where(visible(query_place, key_place, rule, MASK), weights, 0.0)
    v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, True, KNOWN=True)
    return settled(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=PRECISION))


@triton.jit
def _add_run(
    total, q_tile, k, v, k_stride, v_stride, first_query, begin, end, length, half_scale, position, time,
    query_least, query_most, key_bounds, num_blocks, counts, amount, rate, times,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr,
    POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a run of tiles of keys, see `runs`."""
    QUERIES: tl.constexpr = q_tile.shape[0]  # noqa: N806
    query_place = (first_query + tl.arange(0, QUERIES))[:, None]
    spans, reads = read_ahead(
        no_spans(), begin, position, time, query_least, query_most, key_bounds, num_blocks, first_query,
        begin, length, counts, True, QUERIES, KEYS,
    )  # fmt: skip
    for first_key in tl.range(begin, end, KEYS):
        k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, False, KNOWN=True)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        key_place = (first_key + tl.arange(0, KEYS))[None, :]
        half = half_run_scores(
            products, half_scale, reads, position, time, counts, first_query, first_key, query_place,
            key_place, length, amount, rate, times, True, POWER,
        )  # fmt: skip
        weights = activate(half, IDENTITY, FAST)
        spans, reads = read_ahead(
            spans, begin, position, time, query_least, query_most, key_bounds, num_blocks, first_query,
            tl.minimum(first_key + KEYS, end - KEYS), length, counts, True, QUERIES, KEYS,
        )  # fmt: skip
        weights = after_reads(weights, reads, position, time)
        v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, False, KNOWN=True)
        total = settled(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=PRECISION))
    return total


@triton.jit
def _add_tiles(
    total, q_tile, k, v, k_stride, v_stride, first_query, ranges, length, rule, half_scale, position, time,
    query_least, query_most, key_bounds, num_blocks, amount, rate, times,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr,
    POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add all tiles of some ranges, with the mask."""
    place = place_of(ranges, 0, KEYS, MASK)
    QUERIES: tl.constexpr = q_tile.shape[0]  # noqa: N806
    span = outlook(
        time, query_least, query_most, key_bounds, num_blocks, first_query, place, length, True, QUERIES, KEYS
    )
    for step in tl.range(0, count_all(ranges, KEYS, MASK)):
        next_place = place_of(ranges, step + 1, KEYS, MASK)
        next_span = outlook(
            time, query_least, query_most, key_bounds, num_blocks, first_query, next_place, length, True,
            QUERIES, KEYS,
        )  # fmt: skip
        total = _add_tile(
            total, q_tile, k, v, k_stride, v_stride, first_query, place, length, rule,
            half_scale, position, time, span, amount, rate, times,
            KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION,
        )  # fmt: skip
        place = next_place
        span = next_span
    return total


@triton.jit(do_not_specialize=VARYING)
def forward_kernel(
    q, k, v, out, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    borders, wide_borders, near, older, tokens,
    num_blocks, q_stride, q_head, k_stride: tl.constexpr, k_head, v_stride: tl.constexpr, v_head, out_stride,
    window, front, context, half_scale, output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tl.program_id(1))
    # The last tile of a sequence sees the most keys and goes first.
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    if length == 0:
        return
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    rule, row = read_rule(rules, num_sequences, sequence, start, length, window, front, context, MASK)
    times = (seconds, seconds, query_time, timestamp, borders, wide_borders, near)
    if seconds is not None:
        times = from_token(times, start, tokens)
    if position is not None:
        position += head * position_head
    if time is not None:
        time += head * time_head
    if amount is not None:
        amount += head * decay_head
        rate += head * decay_head
    q += row * q_stride + head * q_head
    out += row * out_stride + head * V_DIM
    query_least = 0
    query_most = 0
    key_bounds = bounds
    if time is not None:
        query_least, query_most = block_bounds(bounds + blocks, num_blocks, first, length, QUERIES)
        key_bounds = bounds + 2 * num_blocks + blocks
    q_tile = load_rows(q, q_stride, first, length, QUERIES, QK_DIM, QK_WIDTH, True, rule[4])
    whole_begin, whole_end, ranges = key_ranges(first, length, rule, QUERIES, KEYS, MASK)
    total = tl.zeros((QUERIES, V_WIDTH), tl.float32)
    if SPLIT and time is not None:
        counts, ordered = counts_of(older, start)
        whole_end = tl.where(ordered, whole_end, whole_begin)
        place, end = ranges[0], ranges[3]
        while place < end:
            stop, again = find_run(
                query_least, query_most, key_bounds, num_blocks, place, whole_begin, whole_end, end, length,
                True, KEYS,
            )  # fmt: skip
            if place < stop:
                total = _add_run(
                    total, q_tile, k, v, k_stride, v_stride, first, place, stop, length, half_scale,
                    position, time, query_least, query_most, key_bounds, num_blocks, counts, amount, rate,
                    times, KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST, PRECISION,
                )  # fmt: skip
            total = _add_tiles(
                total, q_tile, k, v, k_stride, v_stride, first, (stop, again, again, again, again, again),
                length, rule, half_scale, position, time, query_least, query_most, key_bounds, num_blocks,
                amount, rate, times, KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST,
                PRECISION,
            )  # fmt: skip
            place = again
    else:
        if SPLIT:
            total = _add_run(
                total, q_tile, k, v, k_stride, v_stride, first, whole_begin, whole_end, length, half_scale,
                position, time, query_least, query_most, key_bounds, num_blocks, None, amount, rate, times,
                KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST, PRECISION,
            )  # fmt: skip
        else:
            # One loop with the mask: half the code, compiled in half the time.
            ranges = join(ranges, MASK)
        total = _add_tiles(
            total, q_tile, k, v, k_stride, v_stride, first, ranges, length, rule, half_scale, position, time,
            query_least, query_most, key_bounds, num_blocks, amount, rate, times, KEYS, QK_DIM, QK_WIDTH,
            V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION,
        )  # fmt: skip
    store_rows(out, out_stride, first, length, total * output_scale, QUERIES, V_DIM, V_WIDTH, rule[4])
