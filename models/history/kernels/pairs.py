"""What all kernels of history logits do with a tile of pairs of a query and a past event.

A tile's rows are queries or past events: both come as a row or a column, and nothing here asks which.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import math

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.silu.buckets import bucket_range, find_bucket
from models.attention.silu.mma_loads import load_at, load_column, load_diagonals, load_row
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_io import block_bounds
from models.attention.silu.times import LIMIT
from models.gpu.interpreter import INTERPRETED
from models.history.kernels.arguments import (
    AGAIN,
    BEFORE,
    BEHAVIOR,
    CLOSED,
    ITEM,
    ROOM,
    TARGET,
    WANTED,
    Events,
    Masses,
    Queries,
    Tile,
)

FAR = tl.constexpr(-1.0e30)
"""Below all scores, and no infinity, whose differences are no numbers."""
LOG2_E = tl.constexpr(math.log2(math.e))
_BEFORE = tl.constexpr(BEFORE)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_LIMIT = tl.constexpr(LIMIT)
_NATIVE = tl.constexpr(not INTERPRETED)
_NONE = tl.constexpr(float("-inf"))
_ITEM, _TARGET, _BEHAVIOR = tl.constexpr(ITEM), tl.constexpr(TARGET), tl.constexpr(BEHAVIOR)
_WANTED, _AGAIN, _CLOSED, _ROOM = (tl.constexpr(row) for row in (WANTED, AGAIN, CLOSED, ROOM))


@triton.jit
def exp2(x):
    """One operation of the special-function unit; 0 for what is far below."""
    if _NATIVE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def narrow(place):
    """A place in a sequence, kept to 32 bits: for the sake of addresses the compiler would count in 64."""
    if _NATIVE:
        # No instruction at all.
        return tl.inline_asm_elementwise("", "=r,0", [place], dtype=tl.int32, is_pure=True, pack=1)
    else:
        return place


@triton.jit
def _load(table, start, first, SIZE: tl.constexpr, AXIS: tl.constexpr):
    """Numbers of the SIZE events from `first` on, as a column for AXIS 1 and a row for 0."""
    if AXIS == 1:
        return load_column(table + start, first, SIZE)
    else:
        return load_row(table + start, first, SIZE)


@triton.jit
def _load_packed(columns, row: tl.constexpr, start, first, SIZE: tl.constexpr, AXIS: tl.constexpr):
    return _load(columns.packed + row * columns.room.to(tl.int64), start, first, SIZE, AXIS)


@triton.jit
def load_queries(columns, start, first, SIZE: tl.constexpr, AXIS: tl.constexpr, C: tl.constexpr):
    """`Queries` from place `first` on of the sequence that begins at `start`, likewise; past the end of the
    sequence stand those of other events."""
    place = tl.expand_dims(first + tl.arange(0, SIZE), AXIS)
    event = place + start.to(tl.int32)
    target = _load_packed(columns, _TARGET, start, first, SIZE, AXIS)
    wanted = place
    if C.BEHAVIORS > 0:
        wanted = _load_packed(columns, _WANTED, start, first, SIZE, AXIS)
    asked = place
    if C.TIMES > 0:
        asked = _load(columns.seconds, start, first, SIZE, AXIS)
    return Queries(place, event, target, wanted, asked)


@triton.jit
def load_events(columns, start, first, SIZE: tl.constexpr, AXIS: tl.constexpr, C: tl.constexpr):
    """`Events`, likewise."""
    place = tl.expand_dims(first + tl.arange(0, SIZE), AXIS)
    item = _load_packed(columns, _ITEM, start, first, SIZE, AXIS)
    behavior = place
    if C.BEHAVIORS > 0:
        behavior = _load_packed(columns, _BEHAVIOR, start, first, SIZE, AXIS)
    again = place
    if C.AGAIN:
        again = _load_packed(columns, _AGAIN, start, first, SIZE, AXIS)
    closed = place
    if C.CLOSED:
        closed = _load_packed(columns, _CLOSED, start, first, SIZE, AXIS)
    happened = place
    if C.TIMES > 0:
        happened = _load(columns.seconds + (columns.room - _ROOM), start, first, SIZE, AXIS)
    return Events(place, item, behavior, happened, again, closed, tl.where(item != 0, 0.0, _NONE))


@triton.jit
def load_masses(masses, room, start, first, length, SIZE: tl.constexpr, AXIS: tl.constexpr):
    """`Masses`, likewise; `masses` are packed (`packing`). Past the end no pair has a share in them."""
    row = room.to(tl.int64)
    inside = tl.expand_dims(first + tl.arange(0, SIZE) < length, AXIS)
    on_target = tl.where(inside, _load(masses, start, first, SIZE, AXIS), -FAR)
    on_rest = tl.where(inside, _load(masses + row, start, first, SIZE, AXIS), -FAR)
    grad_target = _load(masses + 2 * row, start, first, SIZE, AXIS)
    grad_rest = _load(masses + 3 * row, start, first, SIZE, AXIS)
    return Masses(on_target, on_rest, grad_target, grad_rest)


@triton.jit
def make_tile(
    bounds, num_blocks, blocks, start, length, query, event, QUERIES: tl.constexpr, KEYS: tl.constexpr
):
    """`Tile` of QUERIES queries from place `query` on and KEYS past events from `event` on.

    `bounds` are those of a batch, [4, num_blocks], see `models.attention.silu.times.Times`, or None; `blocks`
    come before the sequence.
    """
    low, high, narrow = 0, 0, 1
    if bounds is not None:
        bounds += blocks
        asked_least, asked_most = block_bounds(bounds, num_blocks, query, length, QUERIES)
        least, most = block_bounds(bounds + 2 * num_blocks, num_blocks, event, length, KEYS)
        fits = (asked_least > -_LIMIT) & (asked_most < _LIMIT) & (least > -_LIMIT) & (most < _LIMIT)
        low, high = bucket_range(asked_least - most, asked_most - least)
        low = tl.where(fits, low, 0)
        high = tl.where(fits, high, _LAST_BUCKET)
        narrow = fits.to(tl.int32)
    return Tile(start, length, query, event, low, high, narrow)


@triton.jit
def _kept_apart(scores):
    """The same, by no instruction at all: Triton 3.6 cannot compile a product whose sum with a row is asked
    for by the branches of an `if` alone, as it is where time is the only table read at places."""
    if _NATIVE:
        return tl.inline_asm_elementwise("", "=f,0", [scores], dtype=tl.float32, is_pure=True, pack=1)
    else:
        return scores


@triton.jit
def _seconds_between(queries, events, product):
    """Absolute differences of a narrow tile, int32."""
    return tl.abs(tie(queries.asked - events.happened, product))


@triton.jit
def _wide_buckets(queries, events, product, columns, tables, tile):
    """The bucket of time of each pair, whatever its times."""
    last = tile.length - 1
    query = tie(tl.minimum(queries.place, last) + 0 * events.place, product)
    event = tie(tl.minimum(events.place, last) + 0 * queries.place, product)
    asked = load_at(columns.query_time + tile.start, query)
    happened = load_at(columns.timestamp + tile.start, event)
    return find_bucket(tl.abs(asked - happened), tables.wide_boundaries)


@triton.jit
def _time_buckets(queries, events, product, columns, tables, tile):
    """The bucket of time of each pair, int32."""
    if tile.narrow != 0:
        difference = _seconds_between(queries, events, product)
        if tile.high - tile.low <= 2:
            # Far from the diagonal most tiles span one bucket or two. Of the last ones that differences of 32
            # bits reach, there are always two more.
            boundaries = tables.boundaries + tile.low
            second = (difference >= tl.load(boundaries + 1)).to(tl.int32)
            bucket = tile.low + second + (difference >= tl.load(boundaries + 2)).to(tl.int32)
        else:
            bucket = find_bucket(difference, tables.boundaries)
    else:
        bucket = _wide_buckets(queries, events, product, columns, tables, tile)
    return bucket


@triton.jit
def _add_time(scores, queries, events, columns, tables, tile):
    """Add what the time since adds, of tiles whose buckets nobody asks for."""
    if tile.narrow != 0:
        if tile.high == tile.low:
            found = scores + tl.load(tables.time + tile.low)
        else:
            difference = _seconds_between(queries, events, scores)
            if tile.high - tile.low <= 2:
                boundaries, time = tables.boundaries + tile.low, tables.time + tile.low
                # Past the last bucket there is none whose entry would be chosen.
                third = tl.load(time + tl.minimum(2, tile.high - tile.low))
                farther = tl.where(difference >= tl.load(boundaries + 2), third, tl.load(time + 1))
                found = scores + tl.where(difference >= tl.load(boundaries + 1), farther, tl.load(time))
            else:
                found = scores + load_at(tables.time, find_bucket(difference, tables.boundaries))
    else:
        found = scores + load_at(tables.time, _wide_buckets(queries, events, scores, columns, tables, tile))
    return found


@triton.jit
def recencies(table, tile, QUERIES: tl.constexpr, KEYS: tl.constexpr, BY_QUERY: tl.constexpr):
    """An entry of `table` for each pair, by events since; rows are queries if BY_QUERY, or past events."""
    start = tile.query - tile.event + _BEFORE
    if BY_QUERY:
        return load_diagonals(table, start, QUERIES, KEYS, 1)
    else:
        return load_diagonals(table, start, KEYS, QUERIES, -1)


@triton.jit
def came_again(queries, events):
    """Whether an event's item came again before a query."""
    return events.again <= queries.event


@triton.jit
def is_closed(queries, events):
    """Whether an event's item had a target behavior before a query."""
    return events.closed <= queries.event


@triton.jit
def score(product, queries, events, columns, tables, tile, BUCKETS: tl.constexpr, C: tl.constexpr):
    """Scores of a tile's pairs but for the constant, minus infinity where an event is not seen; and, if
    BUCKETS and there is a table of times, the bucket of each pair."""
    scores = product + events.bias
    bucket = 0
    if C.BEHAVIORS == 0 and C.TIMES > 0:
        scores = _kept_apart(scores)
    if C.BEHAVIORS > 0:
        place = tie(events.behavior + queries.wanted, product)
        if C.AGAIN:
            place += tl.where(came_again(queries, events), C.BEHAVIORS * C.BEHAVIORS, 0)
        if C.CLOSED:
            place += tl.where(is_closed(queries, events), 2 * C.BEHAVIORS * C.BEHAVIORS, 0)
        scores += load_at(tables.states, place)
    if C.TIMES > 0:
        if BUCKETS:
            bucket = _time_buckets(queries, events, product, columns, tables, tile)
            scores += load_at(tables.time, bucket)
        else:
            scores = _add_time(scores, queries, events, columns, tables, tile)
    if C.RECENCIES > 0:
        scores += recencies(tables.recency, tile, C.QUERIES, C.KEYS, queries.place.shape[1] == 1)
    if tile.event + (C.KEYS - 1) > tile.query:
        scores = tl.where(events.place <= queries.place, scores, _NONE)
    return scores, bucket


@triton.jit
def score_gradients(scores, queries, events, masses):
    """Gradients of a tile's scores; 0 for pairs that are not seen."""
    match = events.item == queries.target
    share = exp2(scores * LOG2_E - tl.where(match, masses.on_target, masses.on_rest))
    return share * tl.where(match, masses.grad_target, masses.grad_rest)
