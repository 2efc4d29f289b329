"""The bias of all pairs, written once for heads that share it, where heads are wide.

One program of wide heads has a multiprocessor for itself, and nothing hides what a tile's bias waits for
(`tile_bias`). So a kernel of its own finds half the bias of each pair, once for all heads and not by each of
them, and writes it in float16, as [rows, tokens, places]: a row for each key, in it a number for each query
of its sequence, as in `kept_scores`. The kernel for the keys, whose registers are full without any bias, adds
a tile of it to the scores; to forward, which reads a bias a tile ahead, it brings nothing.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.kept_scores import scores_layout
from models.attention.silu.kernel_arguments import Bias, Program, TimeColumns
from models.attention.silu.masking import load_rule
from models.attention.silu.prologue import seconds_of_rows, times_of_sequence
from models.attention.silu.tile_bias import half_scores, span_of_tile
from models.attention.silu.tile_io import UNSPECIALIZED, load_tile_entry


@triton.jit
def _places(written, stride, first_query, first_key, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """Of a tile [keys, queries]."""
    # That tiles begin at multiples of their size the compiler does not see.
    places = written + tl.cast(first_key, tl.int64) * stride + first_query // QUERIES * QUERIES
    return places + tl.arange(0, KEYS)[:, None] * stride + tl.arange(0, QUERIES)[None, :]


@triton.jit
def load_written(bias, first_query, first_key, length, MASKED: tl.constexpr, C: tl.constexpr):
    """Half the bias of a tile [keys, queries], anything for pairs that are masked; zero if none is
    written."""
    if bias.written is not None:
        places = _places(bias.written, bias.written_stride, first_query, first_key, C.QUERIES, C.KEYS)
        if MASKED:
            return tl.load(places, mask=first_key + tl.arange(0, C.KEYS)[:, None] < length, other=0.0)
        else:
            return tl.load(places)
    else:
        return 0.0


@triton.jit(do_not_specialize=UNSPECIALIZED)
def write_bias_kernel(
    written, written_stride, tiles, num_tiles, position, position_head, time, time_head, query_time,
    timestamp, seconds, bounds, boundaries, wide_boundaries, bucket_table, tokens, num_blocks,
    C: tl.constexpr,
):  # fmt: skip
    """Of a causal mask: one program a tile of queries and a row of the tables."""
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    head = tl.program_id(0)
    start, length, number, blocks, sequence = load_tile_entry(tiles, num_tiles, tl.program_id(1))
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    if length == 0:
        return
    rule, _ = load_rule(None, 0, sequence, start, length, 0, 0, 0, C.MASK)
    times = TimeColumns(seconds, seconds, query_time, timestamp, boundaries, wide_boundaries, bucket_table)
    if seconds is not None:
        times = times_of_sequence(times, start, tokens)
    bias = Bias(
        None if position is None else position + head * position_head,
        None if time is None else time + head * time_head,
        None, None, times, None, 0,
    )  # fmt: skip
    program = Program(
        start, length, first, rule,
        seconds_of_rows(time, bounds, num_blocks, blocks, first, length, True, QUERIES),
    )  # fmt: skip
    written += (head.to(tl.int64) * tokens + start) * written_stride
    query_index = (first + tl.arange(0, QUERIES))[:, None]
    nothing = scores_layout(C)
    span = span_of_tile(bias.time, program, 0, True, QUERIES, KEYS, C.COMPARED)
    for first_key in tl.range(0, tl.minimum(first + QUERIES, length), KEYS):
        next_span = span_of_tile(bias.time, program, first_key + KEYS, True, QUERIES, KEYS, C.COMPARED)
        key = first_key + tl.arange(0, KEYS)
        half = half_scores(
            nothing, 0.0, first, first_key, query_index, key[None, :], length, rule, bias, span, C
        )
        target = _places(written, written_stride, first, first_key, QUERIES, KEYS)
        tl.store(target, tl.trans(half).to(tl.float16), mask=key[:, None] < length)
        span = next_span
