"""The bias of one tile, from positions and times, added to halved scores.

Far from the diagonal all differences of a tile fall into one time bucket or a few: the tile then takes one
number, and one masked addition a bucket border. Otherwise each pair finds its bucket.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import math

import triton
import triton.language as tl

from models.attention.bias import BUCKET_WIDTH, LAST_BUCKET
from models.attention.triton.reads import fast_log2, read, read_diagonals
from models.attention.triton.sight import RICH, stand
from models.attention.triton.step import block_bounds
from models.attention.triton.times import LIMIT

_LIMIT = tl.constexpr(LIMIT)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_BUCKETS_PER_OCTAVE = tl.constexpr(math.log(2) / BUCKET_WIDTH)
# Far above the error of a logarithm in float32, far below a bucket.
_SLACK = tl.constexpr(1e-4)
# Up to this many borders, comparing with each costs less than finding each pair's bucket.
_FEW = tl.constexpr(6)
_RICH = tl.constexpr(RICH)
# How the pairs of a tile find their buckets: all lie in one; some borders lie between; each for itself; each
# for itself in 64 bits.
ONE, BORDERS, PAIRS, WIDE = 0, 1, 2, 3
_ONE, _BORDERS, _PAIRS, _WIDE = (
    tl.constexpr(ONE),
    tl.constexpr(BORDERS),
    tl.constexpr(PAIRS),
    tl.constexpr(WIDE),
)

# Below, `times` is the tuple (seconds of queries, seconds of keys, query times, timestamps, borders, wide
# borders), the first four from the sequence's first token on.
# `span` is the tuple (way, low, high, base): how the pairs of a tile find their buckets, the buckets between
# which all lie, and what to add to all their biases: `time[low]` if the way adds but differences from there.


@triton.jit
def half_scores(
    products, half_scale, query_place, key_place, length, rule, position, time, span, amount, rate, times,
    POWER: tl.constexpr, MASK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile."""
    half = products * half_scale
    if position is not None:
        # What is the same all over the tile is added to the few different positions, not to all pairs.
        found = read_position(position, query_place, key_place, length, rule, MASK, MASKED)
        half += 0.5 * found + 0.5 * span[3]
    elif time is not None:
        half += 0.5 * span[3]
    if time is not None:
        half = add_time(half, time, span, query_place, key_place, length, times)
    if amount is not None:
        exponent = decay_exponent(query_place, key_place, length, times, POWER)
        half += 0.5 * tl.load(amount) * tl.exp(-tl.load(rate) * exponent)
    return half


@triton.jit
def read_position(position, query_place, key_place, length, rule, MASK: tl.constexpr, MASKED: tl.constexpr):
    """`position[p(i) - p(j)]`; where j is ahead, any entry, and past the end of the sequence that of its end."""
    if MASKED:
        query_place = tl.minimum(query_place, length - 1)
        if MASK == _RICH:
            distance = stand(query_place, rule) - stand(key_place, rule)
        else:
            distance = query_place - key_place
        return read(position, tl.maximum(distance, 0))
    elif query_place.shape[1] == 1:
        return read_diagonals(position, query_place, key_place)
    else:
        return read_diagonals(position, -key_place, -query_place)


@triton.jit
def decay_exponent(query_place, key_place, length, times, POWER: tl.constexpr):
    """What the rate of a decay is multiplied by: `ln(1 + |d|)` or `|d|`."""
    difference = wide_difference(query_place, key_place, length, times).to(tl.float32)
    if POWER:
        return tl.log(1.0 + difference)
    else:
        return difference


@triton.jit
def find_span(
    time,
    own_least,
    own_most,
    bounds,
    num_blocks,
    first,
    length,
    OWN_QUERIES: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The span of a tile with a time table.

    One side's least and greatest second are given, of the queries if OWN_QUERIES, and those of the other are
    those of its blocks. The buckets may be more than need be by one next to them, and are all where 32-bit
    seconds cannot tell.
    """
    other_least, other_most = block_bounds(bounds, num_blocks, first, length, SIZE)
    narrow = (own_least > -_LIMIT) & (own_most < _LIMIT) & (other_least > -_LIMIT) & (other_most < _LIMIT)
    if OWN_QUERIES:
        least = own_least - other_most
        most = own_most - other_least
    else:
        least = other_least - own_most
        most = other_most - own_least
    nearest = tl.maximum(tl.maximum(least, -most), 1)
    farthest = tl.maximum(tl.maximum(most, -least), 1)
    low = (fast_log2(nearest.to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK).to(tl.int32)
    high = (fast_log2(farthest.to(tl.float32)) * _BUCKETS_PER_OCTAVE + _SLACK).to(tl.int32)
    # Comparing with borders takes differences of one sign, and seconds plus a border that fit into 32 bits.
    few = (high - low <= _FEW) & (least >= 0) & (most < _LIMIT // 2)
    way = tl.where(high == low, _ONE, tl.where(few, _BORDERS, _PAIRS))
    low = tl.where(narrow, low, 0)
    high = tl.where(narrow, high, _LAST_BUCKET)
    way = tl.where(narrow, way, _WIDE)
    return way, low, high, tl.where(way == _PAIRS, 0.0, tl.load(time + low))


@triton.jit
def outlook(
    time,
    own_least,
    own_most,
    bounds,
    num_blocks,
    first,
    length,
    OWN_QUERIES: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The span of a tile, zeros without a time table. Asked one tile ahead, to hide its latency."""
    if time is not None:
        return find_span(time, own_least, own_most, bounds, num_blocks, first, length, OWN_QUERIES, SIZE)
    else:
        zero = tl.full((), 0, tl.int32)
        return zero, zero, zero, tl.full((), 0.0, tl.float32)


@triton.jit
def add_time(half, time, span, query_place, key_place, length, times):
    """Add `(time[bucket] - base) / 2`."""
    way, low, high, base = span
    if way != _ONE:
        if way == _BORDERS:
            query, key = read_seconds(query_place, key_place, length, times)
            below = base
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                above = tl.load(time + bucket)
                rise = 0.5 * (above - below)
                half = tl.where(reach(query, key, tl.load(times[4] + bucket)), half + rise, half)
                below = above
        elif way == _PAIRS:
            half += 0.5 * read(time, buckets(query_place, key_place, length, times))
        else:
            # Slow, for sequences that span lifetimes.
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                rise = 0.5 * (tl.load(time + bucket) - tl.load(time + bucket - 1))
                wide = wide_difference(query_place, key_place, length, times)
                half += tl.where(wide >= tl.load(times[5] + bucket), rise, 0.0)
    return half


@triton.jit
def read_seconds(query_place, key_place, length, times):
    """32-bit seconds of queries and keys, where the bounds of the tile allow them."""
    query = read(times[0], tl.minimum(query_place, length - 1))
    return query, read(times[1], tl.minimum(key_place, length - 1))


@triton.jit
def reach(query, key, border):
    """Whether `query - key >= border`: one comparison a pair, and a subtraction a row."""
    if query.shape[1] == 1:
        return query - border >= key
    else:
        return query >= key + border


@triton.jit
def wide_difference(query_place, key_place, length, times):
    """Absolute differences in int64 seconds."""
    query = tl.load(times[2] + tl.minimum(query_place, length - 1))
    key = tl.load(times[3] + tl.minimum(key_place, length - 1))
    return tl.abs(query - key)


@triton.jit
def buckets(query_place, key_place, length, times):
    """The bucket of each pair of a narrow tile: a logarithm never too high, put right by one comparison."""
    query, key = read_seconds(query_place, key_place, length, times)
    difference = tl.abs(query - key)
    logarithm = fast_log2(tl.maximum(difference, 1).to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK
    estimate = logarithm.to(tl.int32)
    return estimate + (difference >= read(times[4], estimate + 1)).to(tl.int32)
