"""Forward: one program a tile of queries and a head, which streams through all tiles of keys that it sees.

Where these programs are few and sequences long, several, each with a part of the keys; results are summed.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.activation import activate
from models.attention.silu.kernel_arguments import Bias, Program, TimeColumns
from models.attention.silu.loops import add_all_tiles
from models.attention.silu.masking import is_visible, key_ranges, load_rule, part_of_ranges
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.scheduling import wait_for_product
from models.attention.silu.simple_tiles import after_prefetch, half_simple_scores, no_spans, prefetch
from models.attention.silu.tile_bias import half_scores
from models.attention.silu.tile_io import UNSPECIALIZED, load_rows, load_tile_entry, store_rows


@triton.jit
def _load_half(
    rows, stride, first, length, SIZE: tl.constexpr, MASKED: tl.constexpr, skip, KNOWN: tl.constexpr,
    SECOND: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The first or second half of the columns of a tile of q or k."""
    HALF: tl.constexpr = C.QK_WIDTH // 2  # noqa: N806
    if SECOND:
        return load_rows(rows + HALF, stride, first, length, SIZE, C.QK_DIM - HALF, HALF, MASKED, skip, KNOWN)
    else:
        return load_rows(rows, stride, first, length, SIZE, HALF, HALF, MASKED, skip, KNOWN)


@triton.jit
def _products_of(own, k, first_key, length, MASKED: tl.constexpr, C: tl.constexpr):
    """Of a tile of queries and one of keys."""
    if C.HALVED:
        first = _load_half(k, C.FIRST_STRIDE, first_key, length, C.KEYS, MASKED, 0, True, False, C)
        products = tl.dot(own[0], tl.trans(first), input_precision=C.PRECISION)
        second = _load_half(k, C.FIRST_STRIDE, first_key, length, C.KEYS, MASKED, 0, True, True, C)
        return tl.dot(own[1], tl.trans(second), products, input_precision=C.PRECISION)
    else:
        k_tile = load_rows(
            k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, MASKED, KNOWN=True
        )
        return tl.dot(own[0], tl.trans(k_tile), input_precision=C.PRECISION)


@triton.jit
def _add_tile(total, own, streamed, program, first_key, half_scale, bias, span, C: tl.constexpr):
    """Add one tile of keys, with the mask."""
    k, v = streamed
    first_query, length = program.first, program.length
    query_index = (first_query + tl.arange(0, C.QUERIES))[:, None]
    key_index = (first_key + tl.arange(0, C.KEYS))[None, :]
    products = _products_of(own, k, first_key, length, True, C)
    half = half_scores(
        products, half_scale, first_query, first_key, query_index, key_index, length, program.rule, bias,
        span, C, True
    )  # fmt: skip
    weights = activate(half, C.IDENTITY, C.FAST)
    weights = tl.where(is_visible(query_index, key_index, program.rule, C.MASK), weights, 0.0)
    v_tile = load_rows(v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, True, KNOWN=True)
    return wait_for_product(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=C.PRECISION))


@triton.jit
def _add_simple_tiles(total, own, streamed, program, begin, end, half_scale, bias, counts, C: tl.constexpr):
    """Add a range of simple tiles of keys, see `simple_tiles`."""
    k, v = streamed
    first_query, length = program.first, program.length
    query_index = (first_query + tl.arange(0, C.QUERIES))[:, None]
    spans, prefetched = prefetch(no_spans(), begin, bias, program, begin, counts, True, C.QUERIES, C.KEYS)
    if C.HALVED:
        # Of the first half of the columns one tile ahead, so that the matrix units have something to do.
        QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
        KEYS: tl.constexpr = C.KEYS  # noqa: N806
        begun = tl.zeros((QUERIES, KEYS), tl.float32)
        if begin < end:
            half_tile = _load_half(k, C.FIRST_STRIDE, begin, length, C.KEYS, False, 0, True, False, C)
            begun = tl.dot(own[0], tl.trans(half_tile), input_precision=C.PRECISION)
    for first_key in tl.range(begin, end, C.KEYS):
        next_key = tl.minimum(first_key + C.KEYS, end - C.KEYS)
        if C.HALVED:
            half_tile = _load_half(k, C.FIRST_STRIDE, first_key, length, C.KEYS, False, 0, True, True, C)
            products = tl.dot(own[1], tl.trans(half_tile), begun, input_precision=C.PRECISION)
            half_tile = _load_half(k, C.FIRST_STRIDE, next_key, length, C.KEYS, False, 0, True, False, C)
            begun = tl.dot(own[0], tl.trans(half_tile), input_precision=C.PRECISION)
        else:
            products = _products_of(own, k, first_key, length, False, C)
        key_index = (first_key + tl.arange(0, C.KEYS))[None, :]
        half = half_simple_scores(
            products, half_scale, prefetched, bias, counts, first_query, first_key, query_index, key_index,
            length, True, C.POWER,
        )  # fmt: skip
        weights = activate(half, C.IDENTITY, C.FAST)
        spans, prefetched = prefetch(spans, begin, bias, program, next_key, counts, True, C.QUERIES, C.KEYS)
        weights = after_prefetch(weights, prefetched, bias)
        v_tile = load_rows(
            v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, False, KNOWN=True
        )
        total = tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=C.PRECISION)
        total = wait_for_product(total)
    return total


@triton.jit(do_not_specialize=UNSPECIALIZED)
def forward_kernel(
    q, k, v, out, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    boundaries, wide_boundaries, bucket_table, keys_beyond, tokens, num_blocks, q_stride, q_head, k_head,
    v_head, out_stride, window, front, context, half_scale, output_scale, parts, part_size,
    C: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    entry = tl.program_id(1)
    part = entry * 0
    if C.PARTS:
        part = entry % parts
        entry = entry // parts
        out += part.to(tl.int64) * part_size
    start, length, number, blocks, sequence = load_tile_entry(tiles, num_tiles, entry)
    # The last tile of a sequence sees the most keys and goes first.
    first = ((length + C.QUERIES - 1) // C.QUERIES - 1 - number) * C.QUERIES
    if length == 0:
        return
    k += start * C.FIRST_STRIDE + head * k_head
    v += start * C.SECOND_STRIDE + head * v_head
    rule, row = load_rule(rules, num_sequences, sequence, start, length, window, front, context, C.MASK)
    times = TimeColumns(seconds, seconds, query_time, timestamp, boundaries, wide_boundaries, bucket_table)
    if seconds is not None:
        times = times_of_sequence(times, start, tokens)
    bias = Bias(
        None if position is None else position + head * position_head,
        None if time is None else time + head * time_head,
        None if amount is None else amount + head * decay_head,
        None if rate is None else rate + head * decay_head,
        times, None, 0,
    )  # fmt: skip
    q += row * q_stride + head * q_head
    out += row * out_stride + head * C.V_DIM
    rows = seconds_of_rows(time, bounds, num_blocks, blocks, first, length, True, C.QUERIES)
    if C.HALVED:
        own = (
            _load_half(q, q_stride, first, length, C.QUERIES, True, rule.skip, False, False, C),
            _load_half(q, q_stride, first, length, C.QUERIES, True, rule.skip, False, True, C),
        )
    else:
        q_tile = load_rows(q, q_stride, first, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, True, rule.skip)
        own = (q_tile, None)
    # A constant's member within a tuple would be a mere number of Python's.
    QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
    V_WIDTH: tl.constexpr = C.V_WIDTH  # noqa: N806
    program = Program(start, length, first, rule, rows)
    ranges = key_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    if C.PARTS:
        ranges = part_of_ranges(ranges, length, part, parts, C.KEYS)
    total = add_all_tiles(
        tl.zeros((QUERIES, V_WIDTH), tl.float32), own, (k, v), program, ranges, half_scale, bias,
        keys_beyond, _add_simple_tiles, _add_tile, True, C,
    )  # fmt: skip
    store_rows(out, out_stride, first, length, total * output_scale, C.QUERIES, C.V_DIM, C.V_WIDTH, rule.skip)
