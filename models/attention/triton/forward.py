"""Forward: one program a tile of queries and a head, all keys that the tile sees one tile after the other."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.triton.bias import add_position, add_time, time_range
from models.attention.triton.step import (
    VARYING,
    block_bounds,
    load_rows,
    read_tile,
    silu,
    store_rows,
    visible,
)


@triton.jit
def key_range(first, length, window, QUERIES: tl.constexpr, KEYS: tl.constexpr, HAS_WINDOW: tl.constexpr):
    """Where keys of a tile of queries begin, are seen by all queries, cease to be, and end.

    Tiles of keys in [begin, whole_begin) and [whole_end, end) need the mask.
    """
    end = tl.minimum(first + QUERIES, length)
    whole_end = (first + 1) // KEYS * KEYS
    begin = 0
    whole_begin = 0
    if HAS_WINDOW:
        begin = tl.maximum(first - window + 1, 0) // KEYS * KEYS
        whole_begin = tl.maximum(first + QUERIES - window + KEYS - 1, 0) // KEYS * KEYS
        whole_begin = tl.minimum(whole_begin, whole_end)
    return begin, whole_begin, whole_end, end


@triton.jit
def two_ranges(begin, whole_begin, whole_end, end, step, SIZE: tl.constexpr):
    """The first place of a step's tile, going through [begin, whole_begin), then from whole_end on."""
    before = (whole_begin - begin + SIZE - 1) // SIZE
    return tl.where(step < before, begin + step * SIZE, whole_end + (step - before) * SIZE)


@triton.jit
def count_tiles(begin, end, SIZE: tl.constexpr):
    return (tl.maximum(end - begin, 0) + SIZE - 1) // SIZE


@triton.jit
def outlook(time, own_least, own_most, bounds, num_blocks, first, length, SIZE: tl.constexpr):
    """`time_range` of a tile, or zeros without a time table. Asked one tile ahead, to hide its latency."""
    if time is not None:
        return time_range(time, own_least, own_most, bounds, num_blocks, first, length, SIZE)
    else:
        return tl.full((), 0, tl.int32), tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)


@triton.jit
def half_scores(
    products, half_scale, query_place, key_place, length, position, time, base, low, high, times,
    MASKED: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile."""
    half = products * half_scale
    if position is not None:
        half = add_position(half, position, query_place, key_place, length, MASKED)
    if time is not None:
        half += 0.5 * base
        half = add_time(half, time, base, low, high, query_place, key_place, length, times)
    return half


@triton.jit
def _step(
    total, q_tile, k, v, k_stride, v_stride, query_place, first_key, length, window, half_scale,
    position, time, base, low, high, times,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, MASKED: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add one tile of keys."""
    key_place = (first_key + tl.arange(0, KEYS))[None, :]
    k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, MASKED)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, query_place, key_place, length, position, time, base, low, high, times, MASKED
    )
    weights = silu(half, FAST)
    if MASKED:
        weights = tl.where(visible(query_place, key_place, window, HAS_WINDOW), weights, 0.0)
    v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, MASKED)
    return tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=PRECISION)


@triton.jit(do_not_specialize=VARYING)
def forward_kernel(
    q, k, v, out, tiles, num_tiles, position, time, query_time, timestamp, seconds, bounds,
    borders, wide_borders, tokens,
    num_blocks, q_stride, q_head, k_stride, k_head, v_stride, v_head, out_stride, window, half_scale,
    output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    start, length, number, blocks = read_tile(tiles, num_tiles, tl.program_id(1))
    # The last tile of a sequence sees the most keys and goes first.
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    if length == 0:
        return
    q += start * q_stride + head * q_head
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    out += start * out_stride + head * V_DIM
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
    begin, whole_begin, whole_end, end = key_range(first, length, window, QUERIES, KEYS, HAS_WINDOW)
    total = tl.zeros((QUERIES, V_WIDTH), tl.float32)
    if SPLIT:
        low, high, base = outlook(
            time, query_least, query_most, key_bounds, num_blocks, whole_begin, length, KEYS
        )
        for first_key in tl.range(whole_begin, whole_end, KEYS):
            next_low, next_high, next_base = outlook(
                time, query_least, query_most, key_bounds, num_blocks, first_key + KEYS, length, KEYS
            )
            total = _step(
                total, q_tile, k, v, k_stride, v_stride, query_place, first_key, length, window, half_scale,
                position, time, base, low, high, times,
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
        total = _step(
            total, q_tile, k, v, k_stride, v_stride, query_place, place, length, window, half_scale,
            position, time, base, low, high, times,
            KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, HAS_WINDOW, True, FAST, PRECISION,
        )  # fmt: skip
        place = next_place
        low, high, base = next_low, next_high, next_base
    store_rows(out, out_stride, first, length, total * output_scale, QUERIES, V_DIM, V_WIDTH)
