"""Gradients of queries and of the tables: a program is a tile of queries, as in the forward pass.

Each program adds up a row of partial sums of the tables' gradients, which are then added up in a fixed order:
no atomics. A tile's buckets are gone through one by one; far from the diagonal there are one or two.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.tile_io import load_rows, load_tile_entry, store_rows
from models.history.kernels.arguments import BEFORE, Columns, Tables
from models.history.kernels.pairs import (
    came_again,
    is_closed,
    load_events,
    load_masses,
    load_queries,
    make_tile,
    narrow,
    recencies,
    score,
    score_gradients,
)

_BEFORE = tl.constexpr(BEFORE)
_UPPER = tl.constexpr(-(1 << 16))
"""Of a float32, the bits that bfloat16 has too."""


@triton.jit
def _add_by_bucket(sums, gradients, bucket, low, high):
    """Add the gradients of each bucket to its place in a row of sums."""
    places = tl.arange(0, sums.shape[0])
    for number in tl.range(low, high + 1):
        total = tl.sum(tl.where(bucket == number, gradients, 0.0))
        sums += tl.where(places == number, total, 0.0)
    return sums


@triton.jit
def _add_by_behavior(counts, gradients, queries, events, WIDTH: tl.constexpr, C: tl.constexpr):
    """Add gradients to sums a query and behavior: of all pairs, of those whose item came again, and of those
    whose item is closed; each only where there is a table for it."""
    hot = tl.trans(events.behavior) == C.BEHAVIORS * tl.arange(0, WIDTH)[None, :]
    of_all, of_again, of_closed = counts
    if C.PLAIN:
        of_all = _add_hot(of_all, gradients, hot, C.HALVES)
    if C.AGAIN:
        of_again = _add_hot(of_again, tl.where(came_again(queries, events), gradients, 0.0), hot, C.HALVES)
    if C.CLOSED:
        of_closed = _add_hot(of_closed, tl.where(is_closed(queries, events), gradients, 0.0), hot, C.HALVES)
    return of_all, of_again, of_closed


@triton.jit
def _add_hot(total, gradients, hot, HALVES: tl.constexpr):
    """`total + gradients @ hot`, of zeros and ones, exact to 16 bits or more."""
    if HALVES:
        upper = (gradients.to(tl.int32, bitcast=True) & _UPPER).to(tl.float32, bitcast=True)
        total = tl.dot(upper.to(tl.bfloat16), hot.to(tl.bfloat16), total)
        return tl.dot((gradients - upper).to(tl.bfloat16), hot.to(tl.bfloat16), total)
    else:
        return tl.dot(gradients, hot.to(tl.float32), total, input_precision="tf32x3")


@triton.jit
def _store_sums(partials, sums, SIZE: tl.constexpr):
    """Write a row of sums, and give the address behind it."""
    places = tl.arange(0, sums.shape[0])
    tl.store(partials + places, sums, mask=places < SIZE)
    return partials + SIZE


@triton.jit
def _store_by_wanted(partials, counts, wanted, BEHAVIORS: tl.constexpr):
    """Write [BEHAVIORS, BEHAVIORS] sums, behavior by wanted behavior, and give the address behind them.

    Args:
        counts: [queries, behaviors] sums.
        wanted: [queries, 1] int32
    """
    places = tl.arange(0, counts.shape[1])
    for column in tl.range(0, BEHAVIORS):
        total = tl.sum(tl.where(wanted == column, counts, 0.0), axis=0)
        tl.store(partials + places * BEHAVIORS + column, total, mask=places < BEHAVIORS)
    return partials + BEHAVIORS * BEHAVIORS


@triton.jit(do_not_specialize=("num_tiles", "room", "num_blocks", "partial_stride"))
def query_gradient_kernel(
    query, key, masses, dquery, partials, partial_stride, scale, tiles, num_tiles, packed, room, seconds,
    query_time, timestamp, bounds, num_blocks, states, time, boundaries, wide_boundaries, recency, buckets,
    C: tl.constexpr,
):  # fmt: skip
    """A row of `partials` holds sums for the tables of time and of events since, for those of behaviors, of
    items that came again and of closed ones, and for the constant."""
    start, length, number, blocks, _ = load_tile_entry(tiles, num_tiles, tl.program_id(0))
    if length == 0:
        return
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    WIDTH: tl.constexpr = C.WIDTH
    BEHAVIOR_WIDTH: tl.constexpr = C.BEHAVIOR_WIDTH
    TIME_WIDTH: tl.constexpr = C.TIME_WIDTH
    RECENCY_WIDTH: tl.constexpr = C.RECENCY_WIDTH
    first = ((length + QUERIES - 1) // QUERIES - 1 - number) * QUERIES
    columns = Columns(packed, room, seconds, query_time, timestamp)
    tables = Tables(states, time, boundaries, wide_boundaries, recency)
    queries = load_queries(columns, start, first, QUERIES, 1, C)
    given = load_masses(masses, room, start, first, length, QUERIES, 1)
    if C.DIM > 0:
        query += start * C.QUERY_STRIDE
        key += start * C.KEY_STRIDE
        query_tile = load_rows(query, C.QUERY_STRIDE, first, length, QUERIES, C.DIM, WIDTH, True)
    dquery_tile = tl.zeros((QUERIES, WIDTH), tl.float32)
    by_time = tl.zeros((TIME_WIDTH,), tl.float32)
    by_recency = tl.zeros((RECENCY_WIDTH,), tl.float32)
    none = tl.zeros((QUERIES, BEHAVIOR_WIDTH), tl.float32)
    counts = (none, none, none)
    end = tl.minimum(first + QUERIES, length)
    for counted in tl.range(0, end, KEYS):
        first_event = narrow(counted)
        events = load_events(columns, start, first_event, KEYS, 0, C)
        if C.DIM > 0:
            key_tile = load_rows(key, C.KEY_STRIDE, first_event, length, KEYS, C.DIM, WIDTH, True, KNOWN=True)
            product = tl.dot(query_tile, tl.trans(key_tile), input_precision=C.PRECISION)
        else:
            product = tl.zeros((QUERIES, KEYS), tl.float32)
        tile = make_tile(bounds, num_blocks, blocks, start, length, first, first_event, QUERIES, KEYS)
        scores, time_bucket = score(product, queries, events, columns, tables, tile, partials is not None, C)
        gradients = score_gradients(scores, queries, events, given)
        if C.DIM > 0 and dquery is not None:
            dquery_tile = tl.dot(
                gradients.to(key_tile.dtype), key_tile, dquery_tile, input_precision=C.PRECISION
            )
        if partials is not None:
            if C.TIMES > 0:
                by_time = _add_by_bucket(by_time, gradients, time_bucket, tile.low, tile.high)
            if C.RECENCIES > 0:
                bucket = recencies(buckets, tile, QUERIES, KEYS, True)
                apart = buckets + (_BEFORE + first - first_event)
                nearest, farthest = tl.load(apart - (KEYS - 1)), tl.load(apart + (QUERIES - 1))
                by_recency = _add_by_bucket(by_recency, gradients, bucket, nearest, farthest)
            if C.BEHAVIORS > 0:
                counts = _add_by_behavior(counts, gradients, queries, events, BEHAVIOR_WIDTH, C)
    factor = 1.0
    if scale is not None:
        factor = tl.load(scale)
    if C.DIM > 0 and dquery is not None:
        dquery += start * C.DIM
        store_rows(dquery, C.DIM, first, length, dquery_tile * factor, QUERIES, C.DIM, WIDTH)
    if partials is not None:
        row = partials + tl.program_id(0).to(tl.int64) * partial_stride
        if C.TIMES > 0:
            row = _store_sums(row, by_time * factor, C.TIMES)
        if C.RECENCIES > 0:
            row = _store_sums(row, by_recency * factor, C.RECENCIES)
        if C.BEHAVIORS > 0:
            if C.PLAIN:
                row = _store_by_wanted(row, counts[0] * factor, queries.wanted, C.BEHAVIORS)
            if C.AGAIN:
                row = _store_by_wanted(row, counts[1] * factor, queries.wanted, C.BEHAVIORS)
            if C.CLOSED:
                row = _store_by_wanted(row, counts[2] * factor, queries.wanted, C.BEHAVIORS)
        of_constant = tl.where(queries.place < length, given.grad_target + given.grad_rest, 0.0)
        tl.store(row, tl.sum(of_constant) * factor)
