"""Backward: scores again tile by tile, once by tiles of keys (for k and v), once by tiles of queries (for q).

Recomputing twice costs two matrix products in seven and saves all atomics: every gradient is written once, in
a fixed order, so results are the same bit for bit in every run.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.triton.forward import count_tiles, half_scores, key_range, outlook, two_ranges
from models.attention.triton.step import (
    VARYING,
    block_bounds,
    load_rows,
    read_tile,
    silu_and_slope,
    store_rows,
    visible,
)


@triton.jit
def query_range(first, length, window, QUERIES: tl.constexpr, KEYS: tl.constexpr, HAS_WINDOW: tl.constexpr):
    """Like `key_range`, of the queries that see a tile of keys; the sequence's end needs the mask as well."""
    end = length
    whole_end = length // QUERIES * QUERIES
    if HAS_WINDOW:
        end = tl.minimum(length, first + KEYS - 1 + window)
        whole_end = tl.minimum(whole_end, (first + window) // QUERIES * QUERIES)
    begin = first // QUERIES * QUERIES
    whole_begin = tl.minimum((first + KEYS - 1 + QUERIES - 1) // QUERIES * QUERIES, end)
    whole_begin = tl.where(whole_begin > whole_end, end, whole_begin)
    return begin, whole_begin, tl.maximum(whole_end, whole_begin), end


@triton.jit
def _key_step(
    dk_tile, dv_tile, q, k_tile, v_tile, given, q_stride, given_stride, first_query, key_place, length,
    window,
    half_scale, position, time, base, low, high, times,
    QUERIES: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, HAS_WINDOW: tl.constexpr, MASKED: tl.constexpr, FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of queries; tiles are [keys, queries]."""
    query_place = (first_query + tl.arange(0, QUERIES))[None, :]
    q_tile = load_rows(q, q_stride, first_query, length, QUERIES, QK_DIM, QK_WIDTH, MASKED)
    given_tile = load_rows(given, given_stride, first_query, length, QUERIES, V_DIM, V_WIDTH, MASKED)
    products = tl.dot(k_tile, tl.trans(q_tile), input_precision=PRECISION)
    dweights = tl.dot(v_tile, tl.trans(given_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, query_place, key_place, length, position, time, base, low, high, times, MASKED
    )
    weights, slope = silu_and_slope(half, FAST)
    dscores = dweights * slope
    if MASKED:
        seen = visible(query_place, key_place, window, HAS_WINDOW)
        weights = tl.where(seen, weights, 0.0)
        dscores = tl.where(seen, dscores, 0.0)
    dv_tile = tl.dot(weights.to(given_tile.dtype), given_tile, dv_tile, input_precision=PRECISION)
    dk_tile = tl.dot(dscores.to(q_tile.dtype), q_tile, dk_tile, input_precision=PRECISION)
    return dk_tile, dv_tile


@triton.jit(do_not_specialize=VARYING)
def key_kernel(
    q, k, v, given, dk, dv, tiles, num_tiles, position, time, query_time, timestamp, seconds, bounds,
    borders, wide_borders, tokens, num_blocks, q_stride, q_head, k_stride, k_head, v_stride, v_head,
    given_stride, given_head,
    dk_stride, dv_stride, window, half_scale, qk_scale, output_scale,
    KEYS: tl.constexpr, QUERIES: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v: one program a tile of keys and a head. The first tile is seen the most."""
    head = tl.program_id(0)
    start, length, number, blocks = read_tile(tiles, num_tiles, tl.program_id(1))
    first = number * KEYS
    if length == 0:
        return
    q += start * q_stride + head * q_head
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    given += start * given_stride + head * given_head
    dk += start * dk_stride + head * QK_DIM
    dv += start * dv_stride + head * V_DIM
    times = (seconds, seconds, query_time, timestamp, borders, wide_borders)
    key_least = 0
    key_most = 0
    query_bounds = bounds
    if time is not None:
        times = (
            seconds + start, seconds + tokens + start, query_time + start, timestamp + start, borders,
            wide_borders,
        )  # fmt: skip
        key_least, key_most = block_bounds(bounds + 2 * num_blocks + blocks, num_blocks, first, length, KEYS)
        query_bounds = bounds + blocks
    key_place = (first + tl.arange(0, KEYS))[:, None]
    k_tile = load_rows(k, k_stride, first, length, KEYS, QK_DIM, QK_WIDTH, True)
    v_tile = load_rows(v, v_stride, first, length, KEYS, V_DIM, V_WIDTH, True)
    dk_tile = tl.zeros((KEYS, QK_WIDTH), tl.float32)
    dv_tile = tl.zeros((KEYS, V_WIDTH), tl.float32)
    begin, whole_begin, whole_end, end = query_range(first, length, window, QUERIES, KEYS, HAS_WINDOW)
    if SPLIT:
        low, high, base = outlook(
            time, key_least, key_most, query_bounds, num_blocks, whole_begin, length, QUERIES
        )
        for first_query in tl.range(whole_begin, whole_end, QUERIES):
            next_low, next_high, next_base = outlook(
                time, key_least, key_most, query_bounds, num_blocks, first_query + QUERIES, length, QUERIES
            )
            dk_tile, dv_tile = _key_step(
                dk_tile, dv_tile, q, k_tile, v_tile, given, q_stride, given_stride, first_query, key_place,
                length,
                window, half_scale, position, time, base, low, high, times,
                QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, HAS_WINDOW, False, FAST, PRECISION,
            )  # fmt: skip
            low, high, base = next_low, next_high, next_base
    else:
        # One loop with the mask: half the code, compiled in half the time.
        whole_begin = begin
        whole_end = begin
    place = two_ranges(begin, whole_begin, whole_end, end, 0, QUERIES)
    low, high, base = outlook(time, key_least, key_most, query_bounds, num_blocks, place, length, QUERIES)
    for step in tl.range(0, count_tiles(begin, whole_begin, QUERIES) + count_tiles(whole_end, end, QUERIES)):
        next_place = two_ranges(begin, whole_begin, whole_end, end, step + 1, QUERIES)
        next_low, next_high, next_base = outlook(
            time, key_least, key_most, query_bounds, num_blocks, next_place, length, QUERIES
        )
        dk_tile, dv_tile = _key_step(
            dk_tile, dv_tile, q, k_tile, v_tile, given, q_stride, given_stride, place, key_place,
            length,
            window, half_scale, position, time, base, low, high, times,
            QUERIES, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, HAS_WINDOW, True, FAST, PRECISION,
        )  # fmt: skip
        place = next_place
        low, high, base = next_low, next_high, next_base
    store_rows(dk, dk_stride, first, length, dk_tile * (qk_scale * output_scale), KEYS, QK_DIM, QK_WIDTH)
    store_rows(dv, dv_stride, first, length, dv_tile * output_scale, KEYS, V_DIM, V_WIDTH)


@triton.jit
def _query_step(
    dq_tile, q_tile, k, v, given_tile, k_stride, v_stride, query_place, first_key, length, window,
    half_scale, position, time, base, low, high, times,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, HAS_WINDOW: tl.constexpr, MASKED: tl.constexpr, FAST: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of keys; tiles are [queries, keys]."""
    key_place = (first_key + tl.arange(0, KEYS))[None, :]
    k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, MASKED)
    v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, MASKED)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
    dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, query_place, key_place, length, position, time, base, low, high, times, MASKED
    )
    _, slope = silu_and_slope(half, FAST)
    dscores = dweights * slope
    if MASKED:
        dscores = tl.where(visible(query_place, key_place, window, HAS_WINDOW), dscores, 0.0)
    return tl.dot(dscores.to(k_tile.dtype), k_tile, dq_tile, input_precision=PRECISION)


@triton.jit(do_not_specialize=VARYING)
def query_kernel(
    q, k, v, given, dq, tiles, num_tiles, position, time, query_time, timestamp, seconds, bounds,
    borders, wide_borders, tokens, num_blocks, q_stride, q_head, k_stride, k_head, v_stride, v_head,
    given_stride, given_head,
    dq_stride, window, half_scale, qk_scale, output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Gradient of q: one program a tile of queries and a head."""
    head = tl.program_id(0)
    start, length, number, blocks = read_tile(tiles, num_tiles, tl.program_id(1))
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    if length == 0:
        return
    q += start * q_stride + head * q_head
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    given += start * given_stride + head * given_head
    dq += start * dq_stride + head * QK_DIM
    times = (seconds, seconds, query_time, timestamp, borders, wide_borders)
    query_least = 0
    query_most = 0
    key_bounds = bounds
    if time is not None:
        times = (
            seconds + start, seconds + tokens + start, query_time + start, timestamp + start, borders,
            wide_borders,
        )  # fmt: skip
        query_least, query_most = block_bounds(bounds + blocks, num_blocks, first, length, QUERIES)
        key_bounds = bounds + 2 * num_blocks + blocks
    query_place = (first + tl.arange(0, QUERIES))[:, None]
    q_tile = load_rows(q, q_stride, first, length, QUERIES, QK_DIM, QK_WIDTH, True)
    given_tile = load_rows(given, given_stride, first, length, QUERIES, V_DIM, V_WIDTH, True)
    dq_tile = tl.zeros((QUERIES, QK_WIDTH), tl.float32)
    begin, whole_begin, whole_end, end = key_range(first, length, window, QUERIES, KEYS, HAS_WINDOW)
    if SPLIT:
        low, high, base = outlook(
            time, query_least, query_most, key_bounds, num_blocks, whole_begin, length, KEYS
        )
        for first_key in tl.range(whole_begin, whole_end, KEYS):
            next_low, next_high, next_base = outlook(
                time, query_least, query_most, key_bounds, num_blocks, first_key + KEYS, length, KEYS
            )
            dq_tile = _query_step(
                dq_tile, q_tile, k, v, given_tile, k_stride, v_stride, query_place, first_key, length,
                window, half_scale, position, time, base, low, high, times,
                KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, HAS_WINDOW, False, FAST, PRECISION,
            )  # fmt: skip
            low, high, base = next_low, next_high, next_base
    else:
        # One loop with the mask: half the code, compiled in half the time.
        whole_begin = begin
        whole_end = begin
    place = two_ranges(begin, whole_begin, whole_end, end, 0, KEYS)
    low, high, base = outlook(time, query_least, query_most, key_bounds, num_blocks, place, length, KEYS)
    for step in tl.range(0, count_tiles(begin, whole_begin, KEYS) + count_tiles(whole_end, end, KEYS)):
        next_place = two_ranges(begin, whole_begin, whole_end, end, step + 1, KEYS)
        next_low, next_high, next_base = outlook(
            time, query_least, query_most, key_bounds, num_blocks, next_place, length, KEYS
        )
        dq_tile = _query_step(
            dq_tile, q_tile, k, v, given_tile, k_stride, v_stride, query_place, place, length,
            window, half_scale, position, time, base, low, high, times,
            KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, HAS_WINDOW, True, FAST, PRECISION,
        )  # fmt: skip
        place = next_place
        low, high, base = next_low, next_high, next_base
    store_rows(dq, dq_stride, first, length, dq_tile * (qk_scale * output_scale), QUERIES, QK_DIM, QK_WIDTH)
