"""Gradients of q, of the decay and of the tables: scores again, by tiles of queries."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import decay_exponent, from_token, half_scores, outlook
from models.attention.silu.crossings import counts_of
from models.attention.silu.runs import after_reads, find_run, half_run_scores, no_spans, read_ahead
from models.attention.silu.sight import count_all, join, key_ranges, place_of, read_rule, visible
from models.attention.silu.step import (
    VARYING,
    activate_with_slope,
    block_bounds,
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
def _add_tile(
    gradients, q_tile, k, v, given_tile, k_stride, v_stride, first_query, first_key,
    length, rule, half_scale, position, time, span, amount, rate, times, sums,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr,
    POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr, PRECISION: tl.constexpr,
    SUMMED: tl.constexpr,
):  # fmt: skip
    """Add one tile of keys, with the mask; tiles are [queries, keys]."""
    dq_tile, decays, held = gradients
    query_place = (first_query + tl.arange(0, q_tile.shape[0]))[:, None]
    key_place = (first_key + tl.arange(0, KEYS))[None, :]
    k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, True, KNOWN=True)
    v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, True, KNOWN=True)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
    half = half_scores(
        products, half_scale, first_query, first_key, query_place, key_place, length, rule, position,
        time, span, amount, rate, times, POWER, MASK, True,
    )  # fmt: skip
    dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=PRECISION)
    _, slope = activate_with_slope(half, IDENTITY, FAST)
    dscores = tl.where(visible(query_place, key_place, rule, MASK), dweights * slope, 0.0)
    decays = _add_decays(decays, dscores, query_place, key_place, length, amount, rate, times, POWER)
    dq_tile = settled(tl.dot(dscores.to(k_tile.dtype), k_tile, dq_tile, input_precision=PRECISION))
    if SUMMED:
        held = add_tile(
            held, dscores, first_query, first_key, query_place, key_place, length, rule, span[1], times,
            sums, MASK,
        )  # fmt: skip
    return dq_tile, decays, held


@triton.jit
def _add_decays(decays, dscores, query_place, key_place, length, amount, rate, times, POWER: tl.constexpr):
    """Add to the sums over each query for the gradients of a decay's amount and rate, where there is one."""
    damount, drate = decays
    if amount is not None:
        exponent = decay_exponent(query_place, key_place, length, times, POWER)
        level = dscores * tl.exp(-tl.load(rate) * exponent)
        damount += tl.sum(level, axis=1)
        drate -= tl.sum(level * exponent, axis=1)
    return damount, drate


@triton.jit
def _add_run(
    gradients, q_tile, k, v, given_tile, k_stride, v_stride, first_query, begin, end, length, half_scale,
    position, time, query_least, query_most, key_bounds, num_blocks, counts, amount, rate, times, sums,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr, FAST: tl.constexpr,
    PRECISION: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """Add a run of tiles of keys, see `runs`."""
    QUERIES: tl.constexpr = q_tile.shape[0]  # noqa: N806
    dq_tile, decays, held = gradients
    query_place = (first_query + tl.arange(0, QUERIES))[:, None]
    spans, reads = read_ahead(
        no_spans(), begin, position, time, query_least, query_most, key_bounds, num_blocks, first_query,
        begin, length, counts, True, QUERIES, KEYS,
    )  # fmt: skip
    for first_key in tl.range(begin, end, KEYS):
        k_tile = load_rows(k, k_stride, first_key, length, KEYS, QK_DIM, QK_WIDTH, False, KNOWN=True)
        v_tile = load_rows(v, v_stride, first_key, length, KEYS, V_DIM, V_WIDTH, False, KNOWN=True)
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION)
        key_place = (first_key + tl.arange(0, KEYS))[None, :]
        half = half_run_scores(
            products, half_scale, reads, position, time, counts, first_query, first_key, query_place,
            key_place, length, amount, rate, times, True, POWER,
        )  # fmt: skip
        dweights = tl.dot(given_tile, tl.trans(v_tile), input_precision=PRECISION)
        _, slope = activate_with_slope(half, IDENTITY, FAST)
        dscores = dweights * slope
        ends = reads[1]
        spans, reads = read_ahead(
            spans, begin, position, time, query_least, query_most, key_bounds, num_blocks, first_query,
            tl.minimum(first_key + KEYS, end - KEYS), length, counts, True, QUERIES, KEYS,
        )  # fmt: skip
        dscores = after_reads(dscores, reads, position, time)
        decays = _add_decays(decays, dscores, query_place, key_place, length, amount, rate, times, POWER)
        dq_tile = settled(tl.dot(dscores.to(k_tile.dtype), k_tile, dq_tile, input_precision=PRECISION))
        if SUMMED:
            held = add_run_tile(held, dscores, first_query, first_key, ends, counts, sums)
    if SUMMED:
        held = send_held(held, first_query - end, sums)
    return dq_tile, decays, held


@triton.jit
def _add_tiles(
    gradients, q_tile, k, v, given_tile, k_stride, v_stride, first_query, ranges, length, rule, half_scale,
    position, time, query_least, query_most, key_bounds, num_blocks, amount, rate, times, sums,
    KEYS: tl.constexpr, QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr,
    V_WIDTH: tl.constexpr, MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr, SUMMED: tl.constexpr,
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
        gradients = _add_tile(
            gradients, q_tile, k, v, given_tile, k_stride, v_stride, first_query, place,
            length, rule, half_scale, position, time, span, amount, rate, times, sums,
            KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION, SUMMED,
        )  # fmt: skip
        place = next_place
        span = next_span
    return gradients


@triton.jit(do_not_specialize=VARYING)
def query_kernel(
    q, k, v, given, dq, decay_rows, position_sums, position_row, time_sums, time_row, band,
    most, limit, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    borders, wide_borders, near, older, tokens, num_blocks, q_stride, q_head, k_stride: tl.constexpr, k_head,
    v_stride: tl.constexpr, v_head,
    given_stride, given_head,
    dq_stride, window, front, context, half_scale, qk_scale, output_scale,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
    QK_DIM: tl.constexpr, QK_WIDTH: tl.constexpr, V_DIM: tl.constexpr, V_WIDTH: tl.constexpr,
    MASK: tl.constexpr, POWER: tl.constexpr, IDENTITY: tl.constexpr,
    FAST: tl.constexpr, PRECISION: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Gradients of q and of the decay, and sums for those of the tables: one program a tile of queries and a
    head. `most` is what `key_kernel` left there."""
    SUMMED: tl.constexpr = (position_sums is not None) or (time_sums is not None)  # noqa: N806
    head = tl.program_id(0)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tl.program_id(1))
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
    given += row * given_stride + head * given_head
    dq += row * dq_stride + head * QK_DIM
    query_least = 0
    query_most = 0
    key_bounds = bounds
    if time is not None:
        query_least, query_most = block_bounds(bounds + blocks, num_blocks, first, length, QUERIES)
        key_bounds = bounds + 2 * num_blocks + blocks
    q_tile = load_rows(q, q_stride, first, length, QUERIES, QK_DIM, QK_WIDTH, True, rule[4])
    given_tile = load_rows(given, given_stride, first, length, QUERIES, V_DIM, V_WIDTH, True, rule[4])
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
    sums = (position_sums, time_sums, scale, band, unit)
    decays = (tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES,), tl.float32))
    gradients = (tl.zeros((QUERIES, QK_WIDTH), tl.float32), decays, hold_nothing(sums, QUERIES))
    whole_begin, whole_end, ranges = key_ranges(first, length, rule, QUERIES, KEYS, MASK)
    if SPLIT and time is not None:
        if time_sums is not None:
            # No runs in the band: what is to be stored there is stored tile by tile.
            whole_end = tl.minimum(whole_end, band_begin(first))
        counts, ordered = counts_of(older, start)
        whole_end = tl.where(ordered, whole_end, whole_begin)
        place, end = ranges[0], ranges[3]
        while place < end:
            stop, again = find_run(
                query_least, query_most, key_bounds, num_blocks, place, whole_begin, whole_end, end, length,
                True, KEYS,
            )  # fmt: skip
            if place < stop:
                gradients = _add_run(
                    gradients, q_tile, k, v, given_tile, k_stride, v_stride, first, place, stop, length,
                    half_scale, position, time, query_least, query_most, key_bounds, num_blocks, counts,
                    amount, rate, times, sums, KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST,
                    PRECISION, SUMMED,
                )  # fmt: skip
            gradients = _add_tiles(
                gradients, q_tile, k, v, given_tile, k_stride, v_stride, first,
                (stop, again, again, again, again, again), length, rule, half_scale, position, time,
                query_least, query_most, key_bounds, num_blocks, amount, rate, times, sums,
                KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION, SUMMED,
            )  # fmt: skip
            place = again
    else:
        if SPLIT:
            gradients = _add_run(
                gradients, q_tile, k, v, given_tile, k_stride, v_stride, first, whole_begin, whole_end,
                length, half_scale, position, time, query_least, query_most, key_bounds, num_blocks, None,
                amount, rate, times, sums, KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, POWER, IDENTITY, FAST,
                PRECISION, SUMMED,
            )  # fmt: skip
        else:
            # One loop with the mask: half the code, compiled in half the time.
            ranges = join(ranges, MASK)
        gradients = _add_tiles(
            gradients, q_tile, k, v, given_tile, k_stride, v_stride, first, ranges, length, rule, half_scale,
            position, time, query_least, query_most, key_bounds, num_blocks, amount, rate, times, sums,
            KEYS, QK_DIM, QK_WIDTH, V_DIM, V_WIDTH, MASK, POWER, IDENTITY, FAST, PRECISION, SUMMED,
        )  # fmt: skip
    dq_tile, decays, held = gradients
    if SUMMED:
        send_last(held, sums)
    dq_tile *= qk_scale * output_scale
    store_rows(dq, dq_stride, first, length, dq_tile, QUERIES, QK_DIM, QK_WIDTH, rule[4])
    if amount is not None:
        # One pair of sums a tile and head, added up in a fixed order.
        row = decay_rows + 2 * (tl.program_id(1) * tl.num_programs(0) + head)
        tl.store(row, tl.sum(decays[0]) * output_scale)
        tl.store(row + 1, tl.sum(decays[1]) * tl.load(amount) * output_scale)
