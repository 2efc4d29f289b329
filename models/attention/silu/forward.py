"""Forward: one program a tile of queries and a head, all keys that the tile sees one tile after the other."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import half_scores
from models.attention.silu.kernel_arguments import Bias, Program, TimeColumns
from models.attention.silu.loops import add_all_tiles
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.runs import after_reads, half_run_scores, no_spans, read_ahead
from models.attention.silu.sight import key_ranges, read_rule, visible
from models.attention.silu.step import VARYING, activate, load_rows, read_tile, settled, store_rows


@triton.jit
def _add_tile(total, own, streamed, program, first_key, half_scale, bias, span, C: tl.constexpr):
    """Add one tile of keys, with the mask."""
    q_tile = own
    k, v = streamed
    first_query, length = program.first, program.length
    query_place = (first_query + tl.arange(0, C.QUERIES))[:, None]
    key_place = (first_key + tl.arange(0, C.KEYS))[None, :]
    k_tile = load_rows(k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, True, KNOWN=True)
    products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
    half = half_scores(
        products, half_scale, first_query, first_key, query_place, key_place, length, program.rule, bias,
        span, C
    )  # fmt: skip
    weights = activate(half, C.IDENTITY, C.FAST)
    weights = tl.where(visible(query_place, key_place, program.rule, C.MASK), weights, 0.0)
    v_tile = load_rows(v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, True, KNOWN=True)
    return settled(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=C.PRECISION))


@triton.jit
def _add_run(total, own, streamed, program, begin, end, half_scale, bias, counts, C: tl.constexpr):
    """Add a run of tiles of keys, see `runs`."""
    q_tile = own
    k, v = streamed
    first_query, length = program.first, program.length
    query_place = (first_query + tl.arange(0, C.QUERIES))[:, None]
    spans, reads = read_ahead(no_spans(), begin, bias, program, begin, counts, True, C.QUERIES, C.KEYS)
    for first_key in tl.range(begin, end, C.KEYS):
        k_tile = load_rows(
            k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, False, KNOWN=True
        )
        products = tl.dot(q_tile, tl.trans(k_tile), input_precision=C.PRECISION)
        key_place = (first_key + tl.arange(0, C.KEYS))[None, :]
        half = half_run_scores(
            products, half_scale, reads, bias, counts, first_query, first_key, query_place, key_place, length,
            True, C.POWER,
        )  # fmt: skip
        weights = activate(half, C.IDENTITY, C.FAST)
        spans, reads = read_ahead(
            spans, begin, bias, program, tl.minimum(first_key + C.KEYS, end - C.KEYS), counts, True,
            C.QUERIES, C.KEYS,
        )  # fmt: skip
        weights = after_reads(weights, reads, bias)
        v_tile = load_rows(
            v, C.SECOND_STRIDE, first_key, length, C.KEYS, C.V_DIM, C.V_WIDTH, False, KNOWN=True
        )
        total = settled(tl.dot(weights.to(v_tile.dtype), v_tile, total, input_precision=C.PRECISION))
    return total


@triton.jit(do_not_specialize=VARYING)
def forward_kernel(
    q, k, v, out, tiles, num_tiles, rules, num_sequences, position, position_head,
    time, time_head, amount, rate, decay_head, query_time, timestamp, seconds, bounds,
    borders, wide_borders, near, older, tokens, num_blocks, q_stride, q_head, k_head, v_head, out_stride,
    window, front, context, half_scale, output_scale,
    C: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    start, length, number, blocks, sequence = read_tile(tiles, num_tiles, tl.program_id(1))
    # The last tile of a sequence sees the most keys and goes first.
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
    out += row * out_stride + head * C.V_DIM
    rows = seconds_of_rows(time, bounds, num_blocks, blocks, first, length, True, C.QUERIES)
    q_tile = load_rows(q, q_stride, first, length, C.QUERIES, C.QK_DIM, C.QK_WIDTH, True, rule.skip)
    # A constant's member within a tuple would be a mere number of Python's.
    QUERIES: tl.constexpr = C.QUERIES  # noqa: N806
    V_WIDTH: tl.constexpr = C.V_WIDTH  # noqa: N806
    program = Program(start, length, first, rule, rows)
    ranges = key_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    total = add_all_tiles(
        tl.zeros((QUERIES, V_WIDTH), tl.float32), q_tile, (k, v), program, ranges, half_scale, bias, older,
        _add_run, _add_tile, True, C,
    )  # fmt: skip
    store_rows(out, out_stride, first, length, total * output_scale, C.QUERIES, C.V_DIM, C.V_WIDTH, rule.skip)
