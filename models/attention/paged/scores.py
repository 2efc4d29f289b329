"""The scores of a tile of queries, which are events, with their bias: far from the diagonal all pairs of a
tile fall into one time bucket or a few, elsewhere each pair's bucket is computed (`silu.tile_bias`)."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.paged.arguments import HIDDEN
from models.attention.silu.buckets import find_bucket
from models.attention.silu.masking import RICH, is_visible, logical_position
from models.attention.silu.mma_loads import load_at, load_column, load_diagonals, load_row
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_bias import BOUNDARIES, ONE, PAIRS, classify_tiles
from models.attention.silu.tile_io import block_bounds
from models.attention.silu.times import LIMIT

_RICH, _HIDDEN, _LIMIT = tl.constexpr(RICH), tl.constexpr(HIDDEN), tl.constexpr(LIMIT)
_ONE, _BOUNDARIES, _PAIRS = tl.constexpr(ONE), tl.constexpr(BOUNDARIES), tl.constexpr(PAIRS)
# By 64-bit times, which 32-bit seconds do not hold.
_WIDE = tl.constexpr(PAIRS + 1)
# Up to this many boundaries, comparing with each costs less than finding each pair's bucket.
_FEW = tl.constexpr(6)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)


@triton.jit
def seconds_of_queries(time, query_seconds, first, end, QUERIES: tl.constexpr):
    """Least and greatest second of a tile's queries; zeros without a time table."""
    if time is not None:
        place = tl.minimum(first + tl.arange(0, QUERIES), end - 1)
        found = tl.load(query_seconds + place)
        return tl.min(found), tl.max(found)
    else:
        return tl.full((), 0, tl.int32), tl.full((), 0, tl.int32)


@triton.jit
def span_of_keys(time, least, most, bounds, num_blocks, place, history, KEYS: tl.constexpr):
    """How the pairs of a tile find their buckets, between which ones these are, packed, and what is added
    to all: `time[low]`. Zeros without a time table. Asked for one tile ahead, to hide the wait."""
    if time is not None:
        history = tl.maximum(history, 1)
        key_least, key_most = block_bounds(bounds, num_blocks, tl.minimum(place, history - 1), history, KEYS)
        mode, low, high = classify_tiles(least, most, key_least, key_most, True, _FEW)
        narrow = (least > -_LIMIT) & (most < _LIMIT) & (key_least > -_LIMIT) & (key_most < _LIMIT)
        mode = tl.where(narrow, mode, _WIDE)
        return mode, (low << 8) + high, tl.where(mode >= _PAIRS, 0.0, tl.load(time + low))
    else:
        zero = tl.full((), 0, tl.int32)
        return zero, zero, tl.full((), 0.0, tl.float32)


@triton.jit
def score_pairs(
    products, scale, span, first, place, end, rule, position, last_position, time, amount,
    rate, query_seconds, seconds, query_time, happened, rows, boundaries, wide_boundaries, C: tl.constexpr,
):  # fmt: skip
    """`scale * products + FACTOR * bias`, or HIDDEN where a query does not see a key.

    Args:
        first: place of the first query.
        place: of the first key.
        end: of the queries.
        query_seconds, query_time: by place.
        rows: [KEYS] of the keys in the pages.
    """
    query_index = (first + tl.arange(0, C.QUERIES))[:, None]
    key_index = (place + tl.arange(0, C.KEYS))[None, :]
    mode, ends, below = span
    scores = products * scale
    if position is not None:
        if C.CONTEXT > 1:
            apart = logical_position(query_index, rule) - logical_position(key_index, rule)
            placed = load_at(position, tl.minimum(tl.maximum(apart, 0), last_position))
        else:
            placed = load_diagonals(position, first - place, C.QUERIES, C.KEYS, 1, last_position)
        scores += C.FACTOR * placed + C.FACTOR * below
    elif time is not None:
        scores += C.FACTOR * below
    if time is not None:  # noqa: SIM102
        if mode > _ONE:
            if mode == _BOUNDARIES:
                scores = _add_rises(
                    scores,
                    time,
                    boundaries,
                    query_seconds,
                    seconds,
                    first,
                    place,
                    ends >> 8,
                    ends & 255,
                    below,
                    C,
                )
            elif mode == _PAIRS:
                asked = load_column(query_seconds, first, C.QUERIES)
                difference = tl.abs(asked - load_row(seconds, place, C.KEYS))
                bucket = find_bucket(tie(difference, scores), boundaries)
                scores += C.FACTOR * load_at(time, bucket)
            else:
                scores = _add_wide_rises(
                    scores, time, wide_boundaries, tl.load(query_time + tl.minimum(query_index, end - 1)),
                    tl.load(happened + rows)[None, :], C,
                )  # fmt: skip
    if amount is not None:
        exponent = _difference(query_time, happened, rows, tl.minimum(query_index, end - 1)).to(tl.float32)
        if C.POWER:
            exponent = tl.log(1.0 + exponent)
        scores += C.FACTOR * tl.load(amount) * tl.exp(-tl.load(rate) * exponent)
    whole = (place + C.KEYS <= first) & (first >= C.CONTEXT)
    if C.WINDOWED:
        apart = logical_position(first + C.QUERIES - 1, rule) - logical_position(place, rule)
        whole &= (apart < rule.window) | (place + C.KEYS <= rule.front)
    if not whole:
        seen = is_visible(query_index, key_index, rule, _RICH) & (key_index < rule.history)
        scores = tl.where(seen, scores, _HIDDEN)
    return scores


@triton.jit
def _difference(query_time, happened, rows, query):
    """Seconds between queries and keys, int64."""
    return tl.abs(tl.load(query_time + query) - tl.load(happened + rows)[None, :])


@triton.jit
def _add_rises(
    scores, time, boundaries, query_seconds, seconds, first, place, low, high, below, C: tl.constexpr
):
    """Add `FACTOR * (time[bucket] - below)` for buckets from low to high, `below` the entry of low."""
    query = load_column(query_seconds, first, C.QUERIES)
    key = load_row(seconds, place, C.KEYS)
    boundary, above = tl.load(boundaries + low + 1), tl.load(time + low + 1)
    # Boundary and entry of the next bucket are read while one is compared with.
    for bucket in tl.range(low + 2, high + 2, num_stages=1):
        reached = query - boundary >= key
        rise = C.FACTOR * (above - below)
        below = above
        boundary = tl.load(boundaries + bucket)
        above = tl.load(time + bucket)
        scores = tl.where(reached, scores + rise, scores)
    return scores


@triton.jit
def _add_wide_rises(scores, time, boundaries, query, key, C: tl.constexpr):
    """Add `FACTOR * time[bucket]` of 64-bit times in any order: slow, and sparing of registers."""
    below = tl.load(time)
    scores += C.FACTOR * below
    for bucket in tl.range(1, _LAST_BUCKET + 1, num_stages=1):
        boundary, above = tl.load(boundaries + bucket), tl.load(time + bucket)
        reached = (query - boundary >= key) | (key - boundary >= query)
        scores = tl.where(reached, scores + C.FACTOR * (above - below), scores)
        below = above
    return scores
