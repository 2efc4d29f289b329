"""Forward: a program is a tile of queries, and streams through all tiles of past events that it sees.

Two log-sum-exps a query share one exponential a pair: each pair belongs to one of them.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.tile_io import load_rows, load_tile_entry
from models.history.kernels.arguments import TARGET, Columns, Tables
from models.history.kernels.pairs import (
    FAR,
    LOG2_E,
    exp2,
    load_events,
    load_queries,
    make_tile,
    narrow,
    score,
)

_NONE = tl.constexpr(float("-inf"))
_TARGET = tl.constexpr(TARGET)


@triton.jit
def _add(state, scores, match):
    """Add a tile of pairs: the largest score and the sum of exponentials below it, of matches and others."""
    most_target, sum_target, most_rest, sum_rest = state
    of_target, of_rest = tl.where(match, scores, _NONE), tl.where(match, _NONE, scores)
    # Numbers, since each pair's predicate would have to be packed away over the maxima.
    is_target = match.to(tl.float32)
    higher_target = tl.maximum(most_target, tl.max(of_target, axis=1))
    higher_rest = tl.maximum(most_rest, tl.max(of_rest, axis=1))
    below_target = of_target * LOG2_E - (higher_target * LOG2_E)[:, None]
    below_rest = of_rest * LOG2_E - (higher_rest * LOG2_E)[:, None]
    share = exp2(tl.maximum(below_target, below_rest))
    sum_target *= exp2((most_target - higher_target) * LOG2_E)
    sum_rest *= exp2((most_rest - higher_rest) * LOG2_E)
    sum_target += tl.sum(share * is_target, axis=1)
    sum_rest += tl.sum(share * (1.0 - is_target), axis=1)
    return higher_target, sum_target, higher_rest, sum_rest


@triton.jit
def _log_sum_exp(most, total, constant, asks):
    found = most + tl.log(tl.where(total > 0.0, total, 1.0)) + tl.load(constant)
    return tl.where(asks & (total > 0.0), found, _NONE)


@triton.jit(do_not_specialize=("num_tiles", "room", "num_blocks"))
def forward_kernel(
    query, key, on_target, on_rest, tiles, num_tiles, packed, room, seconds, query_time, timestamp, bounds,
    num_blocks, states, time, boundaries, wide_boundaries, recency, constant, C: tl.constexpr,
):  # fmt: skip
    start, length, number, blocks, _ = load_tile_entry(tiles, num_tiles, tl.program_id(0))
    if length == 0:
        return
    # A constant's member within a tuple would be a mere number of Python's.
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    # The last tile of a sequence sees the most events and goes first.
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    columns = Columns(packed, room, seconds, query_time, timestamp)
    tables = Tables(states, time, boundaries, wide_boundaries, recency)
    queries = load_queries(columns, start, first, QUERIES, 1, C)
    if C.DIM > 0:
        query += start * C.QUERY_STRIDE
        key += start * C.KEY_STRIDE
        query_tile = load_rows(query, C.QUERY_STRIDE, first, length, QUERIES, C.DIM, C.WIDTH, True)
    most = tl.full((QUERIES,), FAR, tl.float32)
    none = tl.zeros((QUERIES,), tl.float32)
    state = (most, none, most, none)
    for counted in tl.range(0, tl.minimum(first + QUERIES, length), KEYS):
        first_event = narrow(counted)
        events = load_events(columns, start, first_event, KEYS, 0, C)
        if C.DIM > 0:
            key_tile = load_rows(
                key, C.KEY_STRIDE, first_event, length, KEYS, C.DIM, C.WIDTH, True, KNOWN=True
            )
            product = tl.dot(query_tile, tl.trans(key_tile), input_precision=C.PRECISION)
        else:
            product = tl.zeros((QUERIES, KEYS), tl.float32)
        tile = make_tile(bounds, num_blocks, blocks, start, length, first, first_event, QUERIES, KEYS)
        scores = score(product, queries, events, columns, tables, tile, False, C)[0]
        state = _add(state, scores, events.item == queries.target)
    most_target, sum_target, most_rest, sum_rest = state
    place = first + tl.arange(0, QUERIES)
    inside = place < length
    asks = tl.load(packed + room.to(tl.int64) * _TARGET + start + place) != 0
    of_target = _log_sum_exp(most_target, sum_target, constant, asks)
    of_rest = _log_sum_exp(most_rest, sum_rest, constant, asks)
    tl.store(on_target + start + place, of_target, mask=inside)
    tl.store(on_rest + start + place, of_rest, mask=inside)
