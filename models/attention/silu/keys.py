"""Gradients of k and v: scores again, by tiles of keys.

Scores are computed once more for the queries (`queries`). That costs two matrix products in seven and saves
all atomics on gradients of tokens: each is written once, in a fixed order.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import from_token, half_scores, outlook
from models.attention.silu.crossings import counts_of
from models.attention.silu.runs import find_run, half_run_scores, no_spans, read_ahead
from models.attention.silu.sight import count_all, join, place_of, query_ranges, read_rule, visible
from models.attention.silu.step import (
    VARYING,
    activate_with_slope,
    block_bounds,
    load_rows,
    read_tile,
    store_rows,
)
from models.attention.silu.table_gradient import note_longest


@triton.jit
def _add_products(
    gradients, half, q_tile, v_tile, given_tile, query_place, key_place, rule, MASK: tl.constexpr,
    MASKED: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what the scores of a tile, [keys, queries], give."""
    dk_tile, dv_tile = gradients
    dweights = tl.dot(v_tile, tl.trans(given_tile), input_precision=PRECISION)
    weights, slope = activate_with_slope(half, IDENTITY, FAST)
    if MASKED:
        seen = visible(query_place, key_place, rule, MASK)
        weights = tl.where(seen, weights, 0.0)
        dscores = tl.where(seen, dweights * slope, 0.0)
    else:
        dscores = dweights * slope
    dv_tile = tl.dot(weights.to(given_tile.dtype), given_tile, dv_tile, input_precision=PRECISION)
    dk_tile = tl.dot(dscores.to(q_tile.dtype), q_tile, dk_tile, input_precision=PRECISION)
    return dk_tile, dv_tile


@triton.jit
def _add_tile(
    gradients, q, k_tile, v_tile, given, q_stride, given_stride, first_query, first_key, length,
    rule, half_scale, position, time, span, amount, rate, times,
    QUERIES: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr,
    POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of queries, with the mask; tiles are [keys, queries]."""
    query_place = (first_query + tl.arange(0, QUERIES))[None, :]
    key_place = (first_key + tl.arange(0, k_tile.shape[0]))[:, None]
    q_tile = load_rows(q, q_stride, first_query, length, QUERIES, QK_DIM, QK_WIDTH, True, rule[4], True)
    given_tile = load_rows(
        given, given_stride, first_query, length, QUERIES, V_DIM, V_WIDTH, True, rule[4], True
    )
    products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, first_query, first_key, query_place, key_place, length, rule, position,
        time, span, amount, rate, times, POWER, MASK, True,
    )  # fmt: skip
    return _add_products(
        gradients, half, q_tile, v_tile, given_tile, query_place, key_place, rule, MASK, True, IDENTITY, FAST,
        PRECISION,
    )  # fmt: skip


@triton.jit
def _add_run(
    gradients, q, k_tile, v_tile, given, q_stride, given_stride, first_key, begin, end, length, half_scale,
    position, time, key_least, key_most, query_bounds, num_blocks, counts, amount, rate, times,
    QUERIES: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a run of tiles of queries, see `runs`."""
    KEYS: tl.constexpr = k_tile.shape[0]  # noqa: N806
    key_place = (first_key + tl.arange(0, KEYS))[:, None]
    spans = no_spans()
    for first_query in tl.range(begin, end, QUERIES):
        spans, reads = read_ahead(
            spans, begin, position, time, key_least, key_most, query_bounds, num_blocks, first_key,
            first_query, length, counts, False, KEYS, QUERIES,
        )  # fmt: skip
        q_tile = load_rows(q, q_stride, first_query, length, QUERIES, QK_DIM, QK_WIDTH, False, KNOWN=True)
        given_tile = load_rows(
            given, given_stride, first_query, length, QUERIES, V_DIM, V_WIDTH, False, KNOWN=True
        )
        products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
        query_place = (first_query + tl.arange(0, QUERIES))[None, :]
        half = half_run_scores(
            products, half_scale, reads, position, time, counts, first_key, first_query, query_place,
            key_place, length, amount, rate, times, False, POWER,
        )  # fmt: skip
        gradients = _add_products(
            gradients, half, q_tile, v_tile, given_tile, query_place, key_place, None, None, False, IDENTITY,
            FAST, PRECISION,
        )  # fmt: skip
    return gradients


@triton.jit
def _add_tiles(
    gradients, q, k_tile, v_tile, given, q_stride, given_stride, first_key, ranges, length, rule, half_scale,
    position, time, key_least, key_most, query_bounds, num_blocks, amount, rate, times,
    QUERIES: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add all tiles of some ranges, with the mask."""
    KEYS: tl.constexpr = k_tile.shape[0]  # noqa: N806
    place = place_of(ranges, 0, QUERIES, MASK)
    span = outlook(
        time, key_least, key_most, query_bounds, num_blocks, first_key, place, length, False, KEYS, QUERIES
    )
    for step in tl.range(0, count_all(ranges, QUERIES, MASK)):
        next_place = place_of(ranges, step + 1, QUERIES, MASK)
        next_span = outlook(
            time, key_least, key_most, query_bounds, num_blocks, first_key, next_place, length, False, KEYS,
            QUERIES,
        )  # fmt: skip
        gradients = _add_tile(
            gradients, q, k_tile, v_tile, given, q_stride, given_stride, place, first_key,
            length, rule, half_scale, position, time, span, amount, rate, times,
            QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION,
        )  # fmt: skip
        place = next_place
        span = next_span
    return gradients


@triton.jit(do_not_specialize=VARYING)
def key_kernel(
    q, k, v, given, dk, dv, most, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    borders, wide_borders, near, sooner, tokens, num_blocks, q_stride: tl.constexpr, q_head,
    k_stride, k_head, v_stride, v_head, given_stride: tl.constexpr, given_head,
    dk_stride, dv_stride, window, front, context, half_scale, qk_scale, output_scale,
    KEYS: tl.constexpr, QUERIES: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v: one program a tile of keys and a head. The first tile is seen the most.

    `most`, if any, is raised to what `table_gradient.find_scale` wants to know.
    """
    head = tl.program_id(0)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tl.program_id(1))
    first = number * KEYS
    if length == 0:
        return
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    dk += start * dk_stride + head * QK_DIM
    dv += start * dv_stride + head * V_DIM
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
    given += row * given_stride + head * given_head
    key_least = 0
    key_most = 0
    query_bounds = bounds
    if time is not None:
        key_least, key_most = block_bounds(bounds + 2 * num_blocks + blocks, num_blocks, first, length, KEYS)
        query_bounds = bounds + blocks
    k_tile = load_rows(k, k_stride, first, length, KEYS, QK_DIM, QK_WIDTH, True)
    v_tile = load_rows(v, v_stride, first, length, KEYS, V_DIM, V_WIDTH, True)
    if most is not None:
        own = load_rows(given, given_stride, first, length, KEYS, V_DIM, V_WIDTH, True, rule[4])
        note_longest(most, own)
        note_longest(most + 1, v_tile)
    gradients = (tl.zeros((KEYS, QK_WIDTH), tl.float32), tl.zeros((KEYS, V_WIDTH), tl.float32))
    whole_begin, whole_end, ranges = query_ranges(first, length, rule, QUERIES, KEYS, MASK)
    if SPLIT and time is not None:
        counts, ordered = counts_of(sooner, start)
        whole_end = tl.where(ordered, whole_end, whole_begin)
        place, end = ranges[0], ranges[3]
        while place < end:
            stop, again = find_run(
                key_least, key_most, query_bounds, num_blocks, place, whole_begin, whole_end, end, length,
                False, QUERIES,
            )  # fmt: skip
            if place < stop:
                gradients = _add_run(
                    gradients, q, k_tile, v_tile, given, q_stride, given_stride, first, place, stop, length,
                    half_scale, position, time, key_least, key_most, query_bounds, num_blocks, counts,
                    amount, rate, times, QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST,
                    PRECISION,
                )  # fmt: skip
            gradients = _add_tiles(
                gradients, q, k_tile, v_tile, given, q_stride, given_stride, first,
                (stop, again, again, again, again, again), length, rule, half_scale, position, time,
                key_least, key_most, query_bounds, num_blocks, amount, rate, times,
                QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION,
            )  # fmt: skip
            place = again
    else:
        if SPLIT:
            gradients = _add_run(
                gradients, q, k_tile, v_tile, given, q_stride, given_stride, first, whole_begin, whole_end,
                length, half_scale, position, time, key_least, key_most, query_bounds, num_blocks, None,
                amount, rate, times, QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST,
                PRECISION,
            )  # fmt: skip
        else:
            # One loop with the mask: half the code, compiled in half the time.
            ranges = join(ranges, MASK)
        gradients = _add_tiles(
            gradients, q, k_tile, v_tile, given, q_stride, given_stride, first, ranges, length, rule,
            half_scale, position, time, key_least, key_most, query_bounds, num_blocks, amount, rate, times,
            QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION,
        )  # fmt: skip
    dk_tile, dv_tile = gradients
    store_rows(dk, dk_stride, first, length, dk_tile * (qk_scale * output_scale), KEYS, QK_DIM, QK_WIDTH)
    store_rows(dv, dv_stride, first, length, dv_tile * output_scale, KEYS, V_DIM, V_WIDTH)
