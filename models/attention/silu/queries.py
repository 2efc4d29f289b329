"""Gradients of q, of the decay and of the tables: scores again, by tiles of queries."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import decay_exponent, half_scores
from models.attention.silu.kernel_arguments import Bias, Program, TableSums, TileRanges, TimeColumns
from models.attention.silu.loops import add_all_tiles
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.runs import after_reads, half_run_scores, no_spans, read_ahead
from models.attention.silu.sight import key_ranges, read_rule, visible
from models.attention.silu.step import (
    VARYING,
    activate_with_slope,
    load_rows,
    read_tile,
    settled,
    store_rows,
)
from models.attention.silu.table_gradient import (
    add_run_tile,
    add_tile,
    find_scale,
    hold_nothing,
    send_held,
    send_last,
)
from models.attention.silu.time_gradient import band_begin, band_scale, from_first


@triton.jit
def _add_tile(gradients, own, streamed, program, first_key, half_scale, bias, span, C: tl.constexpr):
    """Add one tile of keys, with the mask; tiles are [queries, keys]."""
    dq_tile, decays, held = gradients
    q_tile, given_tile, sums = own
    k, v = streamed
    first_query, length = program.first, program.length
    query_place = (first_query + tl.arange(0, C.QUERIES))[:, None]
    key_place = (first_key + tl.arange(0, C.KEYS))[None, :]
    k_tile = load_rows(k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, True, KNOWN=True)
    v_tile = load_rows(v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, True, KNOWN=True)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
    half = half_scores(
        products, half_scale, first_query, first_key, query_place, key_place, length, program.rule, bias,
        span, C
    )  # fmt: skip
    dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=C.PRECISION)
    _, slope = activate_with_slope(half, C.IDENTITY, C.FAST)
    dscores = tl.where(visible(query_place, key_place, program.rule, C.MASK), dweights * slope, 0.0)
    decays = _add_decays(decays, dscores, query_place, key_place, length, bias, C.POWER)
    dq_tile = settled(tl.dot(dscores.to(k_tile.dtype), k_tile, dq_tile, input_precision=C.PRECISION))
    if (sums.position is not None) or (sums.time is not None):
        held = add_tile(
            held, dscores, first_query, first_key, query_place, key_place, length, program.rule, span[1],
            bias.times, sums, C.MASK,
        )  # fmt: skip
    return dq_tile, decays, held


@triton.jit
def _add_decays(decays, dscores, query_place, key_place, length, bias, POWER: tl.constexpr):
    """Add to the sums over each query for the gradients of a decay's amount and rate, where there is one."""
    damount, drate = decays
    if bias.amount is not None:
        exponent = decay_exponent(query_place, key_place, length, bias.times, POWER)
        level = dscores * tl.exp(-tl.load(bias.rate) * exponent)
        damount += tl.sum(level, axis=1)
        drate -= tl.sum(level * exponent, axis=1)
    return damount, drate


@triton.jit
def _add_run(gradients, own, streamed, program, begin, end, half_scale, bias, counts, C: tl.constexpr):
    """Add a run of tiles of keys, see `runs`."""
    dq_tile, decays, held = gradients
    q_tile, given_tile, sums = own
    k, v = streamed
    first_query, length = program.first, program.length
    SUMMED: tl.constexpr = (sums.position is not None) or (sums.time is not None)  # noqa: N806
    query_place = (first_query + tl.arange(0, C.QUERIES))[:, None]
    spans, reads = read_ahead(no_spans(), begin, bias, program, begin, counts, True, C.QUERIES, C.KEYS)
    for first_key in tl.range(begin, end, C.KEYS):
        k_tile = load_rows(
            k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, False, KNOWN=True
        )
        v_tile = load_rows(
            v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, False, KNOWN=True
        )
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
        key_place = (first_key + tl.arange(0, C.KEYS))[None, :]
        half = half_run_scores(
            products, half_scale, reads, bias, counts, first_query, first_key, query_place, key_place, length,
            True, C.POWER,
        )  # fmt: skip
        dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=C.PRECISION)
        _, slope = activate_with_slope(half, C.IDENTITY, C.FAST)
        dscores = dweights * slope
        ends = reads[1]
        spans, reads = read_ahead(
            spans, begin, bias, program, tl.minimum(first_key + C.KEYS, end - C.KEYS), counts, True,
            C.QUERIES, C.KEYS,
        )  # fmt: skip
        dscores = after_reads(dscores, reads, bias)
        decays = _add_decays(decays, dscores, query_place, key_place, length, bias, C.POWER)
        dq_tile = settled(tl.dot(dscores.to(k_tile.dtype), k_tile, dq_tile, input_precision=C.PRECISION))
        if SUMMED:
            held = add_run_tile(held, dscores, first_query, first_key, ends, counts, sums)
    if SUMMED:
        held = send_held(held, first_query - end, sums)
    return dq_tile, decays, held


@triton.jit(do_not_specialize=VARYING)
def query_kernel(
    q, k, v, given, dq, decay_rows, position_sums, position_row, time_sums, time_row, band,
    most, limit, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    borders, wide_borders, near, older, tokens, num_blocks, q_stride, q_head, k_head, v_head,
    given_stride, given_head, dq_stride, window, front, context, half_scale, qk_scale, output_scale,
    C: tl.constexpr,
):  # fmt: skip
    """Gradients of q and of the decay, and sums for those of the tables: one program a tile of queries and a
    head. `most` is what `key_kernel` left there."""
    SUMMED: tl.constexpr = (position_sums is not None) or (time_sums is not None)  # noqa: N806
    head = tl.program_id(0)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tl.program_id(1))
    first = ((length + C.QUERIES - 1) // C.QUERIES - 1 - number) * C.QUERIES
    if length == 0:
        return
    k += start * C.FIRST_STRIDE + head * k_head
    v += start * C.SECOND_STRIDE + head * v_head
    rule, row = read_rule(rules, num_sequences, sequence, start, length, window, front, context, C.MASK)
    times = TimeColumns(seconds, seconds, query_time, timestamp, borders, wide_borders, near)
    if seconds is not None:
        times = times_of_sequence(times, start, tokens)
    bias = Bias(
        None if position is None else position + head * position_head,
        None if time is None else time + head * time_head,
        None if amount is None else amount + head * decay_head,
        None if rate is None else rate + head * decay_head,
        times,
    )
    q += row * q_stride + head * q_head
    given += row * given_stride + head * given_head
    dq += row * dq_stride + head * C.QK_DIM
    rows = seconds_of_rows(time, bounds, num_blocks, blocks, first, length, True, C.QUERIES)
    q_tile = load_rows(q, q_stride, first, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, True, rule.skip)
    given_tile = load_rows(given, given_stride, first, length, C.QUERIES, C.V_DIM, C.V_WIDTH, True, rule.skip)
    scale = 0.0
    unit = 0.0
    if SUMMED:
        scale = find_scale(most, limit)
    if position_sums is not None:
        position_sums += head.to(tl.int64) * position_row
    if time_sums is not None:
        time_sums += head * time_row
        band = from_first(band, head, tokens, start)
        unit = scale / band_scale(limit)
    sums = TableSums(position_sums, time_sums, scale, band, unit)
    # A constant's member within a tuple would be a mere number of Python's.
    QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
    QK_WIDTH: tl.constexpr = C.QK_WIDTH  # noqa: N806
    decays = (tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES,), tl.float32))
    gradients = (tl.zeros((QUERIES, QK_WIDTH), tl.float32), decays, hold_nothing(sums, QUERIES))
    program = Program(start, length, first, rule, rows)
    ranges = key_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    if time_sums is not None:
        # No runs in the band: what is to be stored there is stored tile by tile.
        whole_end = tl.minimum(ranges.whole_end, band_begin(first))
        ranges = TileRanges(ranges.whole_begin, whole_end, ranges.masked)
    dq_tile, decays, held = add_all_tiles(
        gradients, (q_tile, given_tile, sums), (k, v), program, ranges, half_scale, bias, older, _add_run,
        _add_tile, True, C,
    )  # fmt: skip
    if SUMMED:
        send_last(held, sums)
    dq_tile *= qk_scale * output_scale
    store_rows(dq, dq_stride, first, length, dq_tile, C.QUERIES, C.QK_DIM, C.QK_WIDTH, rule.skip)
    if amount is not None:
        # One pair of sums a tile and head, added up in a fixed order.
        row = decay_rows + 2 * (tl.program_id(1) * tl.num_programs(0) + head)
        tl.store(row, tl.sum(decays[0]) * output_scale)
        tl.store(row + 1, tl.sum(decays[1]) * tl.load(bias.amount) * output_scale)
