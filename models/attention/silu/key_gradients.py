"""Gradients of k and v: scores recomputed by tiles of keys.

Scores are computed once more for the queries (`query_gradients`). That costs two matrix products in seven and
saves all atomics on gradients of tokens: each is written once, in a fixed order.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.activation import activate_with_slope
from models.attention.silu.kept_scores import keep_scores
from models.attention.silu.kernel_arguments import Bias, Program, TimeColumns
from models.attention.silu.loops import add_all_tiles
from models.attention.silu.masking import is_visible, load_rule, query_ranges
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.scheduling import wait_for_product
from models.attention.silu.simple_tiles import half_simple_scores, no_spans, prefetch
from models.attention.silu.table_gradient import raise_max_norm
from models.attention.silu.tile_bias import half_scores
from models.attention.silu.tile_io import UNSPECIALIZED, load_rows, load_tile_entry, store_rows
from models.attention.silu.written_bias import load_written


@triton.jit
def _differentiate(
    half, dweights, own, first_query, query_index, key_index, program, MASKED: tl.constexpr, C: tl.constexpr
):
    """Weights and gradients of scores of a tile, [keys, queries], in the type of what they are multiplied
    by."""
    _, v_tile, kept, kept_stride = own
    weights, slope = activate_with_slope(half, C.IDENTITY, C.FAST)
    if MASKED:
        seen = is_visible(query_index, key_index, program.rule, C.MASK)
        weights = tl.where(seen, weights, 0.0)
        dscores = tl.where(seen, dweights * slope, 0.0)
    else:
        dscores = dweights * slope
    dscores = dscores.to(v_tile.dtype)
    if kept is not None:
        keep_scores(kept, kept_stride, dscores, first_query, program.first, program.length)
    return weights.to(v_tile.dtype), dscores


@triton.jit
def _no_weights(tile, C: tl.constexpr):
    """Zeros [keys, queries], of a tile's type."""
    # A constant's member within a tuple would be a mere number of Python's.
    KEYS: tl.constexpr = C.KEYS  # noqa: N806
    QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
    return tl.zeros((KEYS, QUERIES), tile.dtype)


@triton.jit
def _add_products(gradients, weights, dscores, q_tile, dout_tile, C: tl.constexpr):
    """Add what weights and gradients of scores of a tile give."""
    dk_tile, dv_tile = gradients
    dv_tile = tl.dot(weights, dout_tile, dv_tile, input_precision=C.PRECISION)
    dk_tile = tl.dot(dscores, q_tile, dk_tile, input_precision=C.PRECISION)
    if C.ENDED:
        dv_tile, dk_tile = wait_for_product(dv_tile), wait_for_product(dk_tile)
    return dk_tile, dv_tile


@triton.jit
def _scores_of_tile(
    own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias, more, span,
    C: tl.constexpr,
):  # fmt: skip
    """Weights and gradients of scores of any tile."""
    k_tile, v_tile, _, _ = own
    products = tl.dot(k_tile, tl.trans(q_tile), input_precision=C.PRECISION)
    half = half_scores(
        products, half_scale, first_query, program.first, query_index, key_index, program.length,
        program.rule, bias, span, C
    )  # fmt: skip
    if bias.written is not None:
        half += more.to(tl.float32)
    dweights = tl.dot(v_tile, tl.trans(dout_tile), input_precision=C.PRECISION)
    return _differentiate(half, dweights, own, first_query, query_index, key_index, program, True, C)


@triton.jit
def _scores_of_simple_tile(
    own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias, more, counts,
    prefetched, C: tl.constexpr,
):  # fmt: skip
    """The same of a simple one, see `simple_tiles`."""
    k_tile, v_tile, _, _ = own
    products = tl.dot(k_tile, tl.trans(q_tile), input_precision=C.PRECISION)
    half = half_simple_scores(
        products, half_scale, prefetched, bias, counts, program.first, first_query, query_index, key_index,
        program.length, False, C.POWER,
    )  # fmt: skip
    if bias.written is not None:
        half += more.to(tl.float32)
    dweights = tl.dot(v_tile, tl.trans(dout_tile), input_precision=C.PRECISION)
    return _differentiate(half, dweights, own, first_query, query_index, key_index, program, False, C)


@triton.jit
def _add_tile(gradients, own, streamed, program, first_query, half_scale, bias, span, C: tl.constexpr):
    """Add one tile of queries, with the mask; tiles are [keys, queries]."""
    q, dout = streamed
    length = program.length
    query_index = (first_query + tl.arange(0, C.QUERIES))[None, :]
    key_index = (program.first + tl.arange(0, C.KEYS))[:, None]
    more = load_written(bias, first_query, program.first, length, True, C)
    q_tile = load_rows(
        q, C.FIRST_STRIDE, first_query, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, True, program.rule.skip, True
    )
    dout_tile = load_rows(
        dout, C.SECOND_STRIDE, first_query, length, C.QUERIES, C.V_DIM, C.V_WIDTH, True, program.rule.skip,
        True,
    )  # fmt: skip
    if C.APART:
        weights = _no_weights(own[1], C)
        dscores = weights
        if length > 0:
            weights, dscores = _scores_of_tile(
                own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias, more,
                span, C,
            )  # fmt: skip
    else:
        weights, dscores = _scores_of_tile(
            own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias, more,
            span, C,
        )  # fmt: skip
    return _add_products(gradients, weights, dscores, q_tile, dout_tile, C)


@triton.jit
def _add_simple_tiles(
    gradients, own, streamed, program, begin, end, half_scale, bias, counts, C: tl.constexpr
):
    """Add a range of simple tiles of queries, see `simple_tiles`."""
    q, dout = streamed
    length = program.length
    key_index = (program.first + tl.arange(0, C.KEYS))[:, None]
    spans = no_spans()
    for first_query in tl.range(begin, end, C.QUERIES):
        spans, prefetched = prefetch(
            spans, begin, bias, program, first_query, counts, False, C.KEYS, C.QUERIES
        )
        more = load_written(bias, first_query, program.first, length, False, C)
        q_tile = load_rows(
            q, C.FIRST_STRIDE, first_query, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, False, KNOWN=True
        )
        dout_tile = load_rows(
            dout, C.SECOND_STRIDE, first_query, length, C.QUERIES, C.V_DIM, C.V_WIDTH, False, KNOWN=True
        )
        query_index = (first_query + tl.arange(0, C.QUERIES))[None, :]
        if C.APART:
            weights = _no_weights(own[1], C)
            dscores = weights
            if length > 0:
                weights, dscores = _scores_of_simple_tile(
                    own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias,
                    more, counts, prefetched, C,
                )  # fmt: skip
        else:
            weights, dscores = _scores_of_simple_tile(
                own, q_tile, dout_tile, program, first_query, query_index, key_index, half_scale, bias,
                more, counts, prefetched, C,
            )  # fmt: skip
        gradients = _add_products(gradients, weights, dscores, q_tile, dout_tile, C)
    return gradients


@triton.jit(do_not_specialize=UNSPECIALIZED)
def key_gradient_kernel(
    q, k, v, dout, dk, dv, kept, kept_stride, written, written_stride, written_heads, max_norms, tiles,
    num_tiles, rules, num_sequences,
    position, position_head, time, time_head, amount, rate, decay_head, query_time, timestamp, seconds,
    bounds, boundaries, wide_boundaries, bucket_table, queries_before, tokens, num_blocks, q_head, k_stride,
    k_head, v_stride, v_head, dout_head, dk_stride, dv_stride, window, front, context, half_scale, qk_scale,
    output_scale,
    C: tl.constexpr,
):  # fmt: skip
    """Gradients of k and v: one program a tile of keys and a head. The first tile is seen the most.

    `max_norms`, if any, is raised to what `table_gradient.find_scale` wants to know. `kept`, if any, is
    [heads, tokens, kept_stride], see `kept_scores`.
    """
    head = tl.program_id(0)
    start, length, number, blocks, sequence = load_tile_entry(tiles, num_tiles, tl.program_id(1))
    first = number * C.KEYS
    if length == 0:
        return
    k += start * k_stride + head * k_head
    v += start * v_stride + head * v_head
    dk += start * dk_stride + head * C.QK_DIM
    dv += start * dv_stride + head * C.V_DIM
    if kept is not None:
        kept += (head.to(tl.int64) * tokens + start) * kept_stride
    rule, row = load_rule(rules, num_sequences, sequence, start, length, window, front, context, C.MASK)
    times = TimeColumns(seconds, seconds, query_time, timestamp, boundaries, wide_boundaries, bucket_table)
    if seconds is not None:
        times = times_of_sequence(times, start, tokens)
    of_head = head * written_heads
    bias = Bias(
        None if position is None else position + head * position_head,
        None if time is None else time + head * time_head,
        None if amount is None else amount + head * decay_head,
        None if rate is None else rate + head * decay_head,
        times,
        None if written is None else written + (of_head.to(tl.int64) * tokens + start) * written_stride,
        written_stride,
    )
    q += row * C.FIRST_STRIDE + head * q_head
    dout += row * C.SECOND_STRIDE + head * dout_head
    rows = seconds_of_rows(time, bounds, num_blocks, blocks, first, length, False, C.KEYS)
    k_tile = load_rows(k, k_stride, first, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, True)
    v_tile = load_rows(v, v_stride, first, length, C.KEYS, C.V_DIM, C.V_WIDTH, True)
    if max_norms is not None:
        own = load_rows(dout, C.SECOND_STRIDE, first, length, C.KEYS, C.V_DIM, C.V_WIDTH, True, rule.skip)
        raise_max_norm(max_norms, own)
        raise_max_norm(max_norms + 1, v_tile)
    # A constant's member within a tuple would be a mere number of Python's.
    KEYS: tl.constexpr = C.KEYS  # noqa: N806
    QK_WIDTH: tl.constexpr = C.QK_WIDTH  # noqa: N806
    V_WIDTH: tl.constexpr = C.V_WIDTH  # noqa: N806
    gradients = (tl.zeros((KEYS, QK_WIDTH), tl.float32), tl.zeros((KEYS, V_WIDTH), tl.float32))
    program = Program(start, length, first, rule, rows)
    ranges = query_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    dk_tile, dv_tile = add_all_tiles(
        gradients, (k_tile, v_tile, kept, kept_stride), (q, dout), program, ranges, half_scale, bias,
        queries_before, _add_simple_tiles, _add_tile, False, C,
    )  # fmt: skip
    dk_tile *= qk_scale * output_scale
    store_rows(dk, dk_stride, first, length, dk_tile, C.KEYS, C.QK_DIM, C.QK_WIDTH)
    store_rows(dv, dv_stride, first, length, dv_tile * output_scale, C.KEYS, C.V_DIM, C.V_WIDTH)
