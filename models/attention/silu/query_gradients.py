"""Gradients of q, of the decay and of the tables: scores recomputed by tiles of queries."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.activation import activate_with_slope
from models.attention.silu.kept_scores import load_kept, scores_layout
from models.attention.silu.kernel_arguments import Bias, Program, TableSums, TimeColumns
from models.attention.silu.loops import add_all_tiles
from models.attention.silu.masking import is_visible, key_ranges, load_rule
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.scheduling import wait_for_product
from models.attention.silu.shared_sums import begin_shared_sums, shared_sums_scale
from models.attention.silu.simple_tiles import after_prefetch, half_simple_scores, no_spans, prefetch
from models.attention.silu.table_gradient import (
    add_simple_tile,
    add_tile,
    fixed_point_scale,
    flush_sums,
    nothing_pending,
)
from models.attention.silu.tile_bias import decay_exponent, half_scores, packed_buckets_of_tile
from models.attention.silu.tile_io import UNSPECIALIZED, load_rows, load_tile_entry, store_rows


@triton.jit
def _add_tile(gradients, own, streamed, program, first_key, half_scale, bias, span, C: tl.constexpr):
    """Add one tile of keys, with the mask; tiles are [queries, keys]."""
    dq_tile, decays, pending = gradients
    q_tile, dout_tile, sums, kept = own
    k, v = streamed
    first_query, length = program.first, program.length
    query_index = (first_query + tl.arange(0, C.QUERIES))[:, None]
    key_index = (first_key + tl.arange(0, C.KEYS))[None, :]
    k_tile = load_rows(k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, True, KNOWN=True)
    packed = None
    if kept[0] is not None:
        rounded = load_kept(kept[0], kept[1], first_query, first_key, length, True, C)
        dscores = rounded.to(tl.float32) + kept[2]
    else:
        v_tile = load_rows(
            v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, True, KNOWN=True
        )
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
        if C.PACKED and sums.time is not None:
            # For the scores, and for the sums of their gradients.
            packed = packed_buckets_of_tile(
                products, span, first_query, first_key, query_index, key_index, length, bias.times
            )
        half = half_scores(
            products, half_scale, first_query, first_key, query_index, key_index, length, program.rule, bias,
            span, C, False, packed
        )  # fmt: skip
        dweights = tl.dot(dout_tile, tl.trans(v_tile), input_precision=C.PRECISION)
        _, slope = activate_with_slope(half, C.IDENTITY, C.FAST)
        dscores = tl.where(is_visible(query_index, key_index, program.rule, C.MASK), dweights * slope, 0.0)
        decays = _add_decays(decays, dscores, query_index, key_index, length, bias, C.POWER)
        rounded = dscores.to(k_tile.dtype)
    dq_tile = wait_for_product(tl.dot(rounded, k_tile, dq_tile, input_precision=C.PRECISION))
    if (sums.position is not None) or (sums.time is not None):
        pending = add_tile(
            pending, dscores, first_query, first_key, query_index, key_index, length, program.rule, span,
            packed, bias.times, sums, C.MASK, C.SUMS,
        )  # fmt: skip
    return dq_tile, decays, pending


@triton.jit
def _add_decays(decays, dscores, query_index, key_index, length, bias, POWER: tl.constexpr):
    """Add to the sums over each query for the gradients of a decay's amount and rate, where there is one."""
    damount, drate = decays
    if bias.amount is not None:
        exponent = decay_exponent(query_index, key_index, length, bias.times, POWER)
        level = dscores * tl.exp(-tl.load(bias.rate) * exponent)
        damount += tl.sum(level, axis=1)
        drate -= tl.sum(level * exponent, axis=1)
    return damount, drate


@triton.jit
def _add_simple_tiles(
    gradients, own, streamed, program, begin, end, half_scale, bias, counts, C: tl.constexpr
):
    """Add a range of simple tiles of keys, see `simple_tiles`."""
    dq_tile, decays, pending = gradients
    q_tile, dout_tile, sums, kept = own
    k, v = streamed
    first_query, length = program.first, program.length
    SUMMED: tl.constexpr = (sums.position is not None) or (sums.time is not None)  # noqa: N806
    query_index = (first_query + tl.arange(0, C.QUERIES))[:, None]
    spans, prefetched = prefetch(no_spans(), begin, bias, program, begin, counts, True, C.QUERIES, C.KEYS)
    for first_key in tl.range(begin, end, C.KEYS):
        k_tile = load_rows(
            k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, False, KNOWN=True
        )
        key_index = (first_key + tl.arange(0, C.KEYS))[None, :]
        if kept[0] is not None:
            rounded = load_kept(kept[0], kept[1], first_query, first_key, length, False, C)
            dscores = rounded.to(tl.float32) + kept[2]
        else:
            v_tile = load_rows(
                v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, False, KNOWN=True
            )
            products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
            half = half_simple_scores(
                products, half_scale, prefetched, bias, counts, first_query, first_key, query_index,
                key_index, length, True, C.POWER,
            )  # fmt: skip
            dweights = tl.dot(dout_tile, tl.trans(v_tile), input_precision=C.PRECISION)
            _, slope = activate_with_slope(half, C.IDENTITY, C.FAST)
            dscores = dweights * slope
        ends = prefetched[1]
        spans, prefetched = prefetch(
            spans, begin, bias, program, tl.minimum(first_key + C.KEYS, end - C.KEYS), counts, True,
            C.QUERIES, C.KEYS,
        )  # fmt: skip
        if kept[0] is None:
            dscores = after_prefetch(dscores, prefetched, bias)
            decays = _add_decays(decays, dscores, query_index, key_index, length, bias, C.POWER)
            rounded = dscores.to(k_tile.dtype)
        dq_tile = wait_for_product(tl.dot(rounded, k_tile, dq_tile, input_precision=C.PRECISION))
        if SUMMED:
            pending = add_simple_tile(
                pending, dscores, first_query, first_key, query_index, key_index, ends, counts, bias.times,
                sums, C.SUMS,
            )  # fmt: skip
    return dq_tile, decays, pending


@triton.jit(do_not_specialize=UNSPECIALIZED)
def query_gradient_kernel(
    q, k, v, dout, dq, kept, kept_stride, decay_rows, position_sums, position_row, time_sums, time_row,
    max_norms, limit, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    boundaries, wide_boundaries, bucket_table, keys_beyond, tokens, num_blocks, q_stride, q_head, k_head,
    v_head, dout_stride, dout_head, dq_stride, window, front, context, half_scale, qk_scale, output_scale,
    C: tl.constexpr,
):  # fmt: skip
    """Gradients of q and of the decay, and sums for those of the tables: one program a tile of queries and a
    head. `max_norms` is what `key_gradient_kernel` left there, and so is `kept`, if any, see
    `kept_scores`."""
    SUMMED: tl.constexpr = (position_sums is not None) or (time_sums is not None)  # noqa: N806
    head = tl.program_id(0)
    start, length, number, blocks, sequence = load_tile_entry(tiles, num_tiles, tl.program_id(1))
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
    dout += row * dout_stride + head * dout_head
    dq += row * dq_stride + head * C.QK_DIM
    rows = seconds_of_rows(time, bounds, num_blocks, blocks, first, length, True, C.QUERIES)
    if kept is None:
        q_tile = load_rows(q, q_stride, first, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, True, rule.skip)
        dout_tile = load_rows(
            dout, dout_stride, first, length, C.QUERIES, C.V_DIM, C.V_WIDTH, True, rule.skip
        )
        layout = 0.0
    else:
        # Nothing is computed again: neither scores nor, for them, the bias of positions.
        q_tile, dout_tile = q, dout
        kept += (head.to(tl.int64) * tokens + start) * kept_stride
        layout = scores_layout(C)
        bias = Bias(None, bias.time, None, None, bias.times, None, 0)
    scale = 0.0
    shared = length
    shared_scale = 0.0
    if SUMMED:
        scale = fixed_point_scale(max_norms, limit)
        shared = begin_shared_sums(length, C.SUMS)
        shared_scale = shared_sums_scale(scale, limit, C.SUMS)
    if position_sums is not None:
        position_sums += head.to(tl.int64) * position_row
    if time_sums is not None:
        time_sums += head * time_row
    sums = TableSums(position_sums, time_sums, scale, shared, shared_scale)
    # A constant's member within a tuple would be a mere number of Python's.
    QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
    QK_WIDTH: tl.constexpr = C.QK_WIDTH  # noqa: N806
    decays = (tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES,), tl.float32))
    gradients = (tl.zeros((QUERIES, QK_WIDTH), tl.float32), decays, nothing_pending())
    program = Program(start, length, first, rule, rows)
    ranges = key_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    dq_tile, decays, pending = add_all_tiles(
        gradients, (q_tile, dout_tile, sums, (kept, kept_stride, layout)), (k, v), program, ranges,
        half_scale, bias, keys_beyond, _add_simple_tiles, _add_tile, True, C,
    )  # fmt: skip
    flush_sums(pending, sums, C.SUMS)
    dq_tile *= qk_scale * output_scale
    store_rows(dq, dq_stride, first, length, dq_tile, C.QUERIES, C.QK_DIM, C.QK_WIDTH, rule.skip)
    if amount is not None:
        # One pair of sums a tile and head, added up in a fixed order.
        row = decay_rows + 2 * (tl.program_id(1) * tl.num_programs(0) + head)
        tl.store(row, tl.sum(decays[0]) * output_scale)
        tl.store(row + 1, tl.sum(decays[1]) * tl.load(bias.amount) * output_scale)
