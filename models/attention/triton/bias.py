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
from models.attention.triton.sight import RICH, stand
from models.attention.triton.step import block_bounds, read
from models.attention.triton.times import LIMIT

_LIMIT = tl.constexpr(LIMIT)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_BUCKETS_PER_OCTAVE = tl.constexpr(math.log(2) / BUCKET_WIDTH)
# Far above the error of a logarithm in float32, far below a bucket.
_SLACK = tl.constexpr(1e-4)
# Up to this many borders, comparing with each costs less than finding each pair's bucket.
_FEW = tl.constexpr(6)
_RICH = tl.constexpr(RICH)

# Below, `times` is the tuple (seconds of queries, seconds of keys, query times, timestamps, borders, wide
# borders), the first four from the sequence's first token on.


@triton.jit
def half_scores(
    products, half_scale, query_place, key_place, length, rule, position, time, base, low, high, amount, rate,
    times,
    POWER: tl.constexpr, MASK: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile."""
    half = products * half_scale
    if position is not None:
        half = add_position(half, position, query_place, key_place, length, rule, MASK, MASKED)
    if time is not None:
        half += 0.5 * base
        half = add_time(half, time, base, low, high, query_place, key_place, length, times)
    if amount is not None:
        exponent = decay_exponent(query_place, key_place, length, times, POWER)
        half += 0.5 * tl.load(amount) * tl.exp(-tl.load(rate) * exponent)
    return half


@triton.jit
def add_position(
    half, position, query_place, key_place, length, rule, MASK: tl.constexpr, MASKED: tl.constexpr
):
    """Add `position[p(i) - p(j)] / 2`; where j is ahead, any entry, and past the end of the sequence that of
    its end."""
    query_place = tl.minimum(query_place, length - 1)
    if MASK == _RICH:
        distance = tl.maximum(stand(query_place, rule) - stand(key_place, rule), 0)
    else:
        distance = query_place - key_place
        if MASKED:
            distance = tl.maximum(distance, 0)
    return half + 0.5 * read(position, distance)


@triton.jit
def decay_exponent(query_place, key_place, length, times, POWER: tl.constexpr):
    """What the rate of a decay is multiplied by: `ln(1 + |d|)` or `|d|`."""
    difference = wide_difference(query_place, key_place, length, times).to(tl.float32)
    if POWER:
        return tl.log(1.0 + difference)
    else:
        return difference


@triton.jit
def time_range(time, own_least, own_most, bounds, num_blocks, first, length, SIZE: tl.constexpr):
    """Buckets `low` and `high` between which all pairs of a tile lie, and `time[low]`.

    One side's least and greatest second are given, those of the other are those of its blocks; which side is
    which does not matter to absolute differences. The range may be wider than need be by a border next to it,
    and is all buckets where 32-bit seconds cannot tell.
    """
    other_least, other_most = block_bounds(bounds, num_blocks, first, length, SIZE)
    narrow = (own_least > -_LIMIT) & (own_most < _LIMIT) & (other_least > -_LIMIT) & (other_most < _LIMIT)
    least = own_least - other_most
    most = own_most - other_least
    nearest = tl.maximum(tl.maximum(least, -most), 1)
    farthest = tl.maximum(tl.maximum(most, -least), 1)
    low = (tl.log2(nearest.to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK).to(tl.int32)
    high = (tl.log2(farthest.to(tl.float32)) * _BUCKETS_PER_OCTAVE + _SLACK).to(tl.int32)
    low = tl.where(narrow, low, 0)
    return low, tl.where(narrow, high, _LAST_BUCKET), tl.load(time + low)


@triton.jit
def outlook(time, own_least, own_most, bounds, num_blocks, first, length, SIZE: tl.constexpr):
    """`time_range` of a tile, or zeros without a time table. Asked one tile ahead, to hide its latency."""
    if time is not None:
        return time_range(time, own_least, own_most, bounds, num_blocks, first, length, SIZE)
    else:
        return tl.full((), 0, tl.int32), tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)


@triton.jit
def add_time(half, time, base, low, high, query_place, key_place, length, times):
    """Add `(time[bucket] - base) / 2`, given the range of buckets and `base = time[low]`."""
    if high > low:
        if high - low <= _FEW:
            difference = narrow_difference(query_place, key_place, length, times)
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                rise = 0.5 * (tl.load(time + bucket) - tl.load(time + bucket - 1))
                half += tl.where(difference >= tl.load(times[4] + bucket), rise, 0.0)
        elif high < _LAST_BUCKET:
            found = buckets(query_place, key_place, length, times)
            half += 0.5 * (read(time, found) - base)
        else:
            # Slow, for sequences that span lifetimes.
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                rise = 0.5 * (tl.load(time + bucket) - tl.load(time + bucket - 1))
                wide = wide_difference(query_place, key_place, length, times)
                half += tl.where(wide >= tl.load(times[5] + bucket), rise, 0.0)
    return half


@triton.jit
def narrow_difference(query_place, key_place, length, times):
    """Absolute differences in int32 seconds, where the bounds of the tile allow them."""
    query = read(times[0], tl.minimum(query_place, length - 1))
    key = read(times[1], tl.minimum(key_place, length - 1))
    return tl.abs(query - key)


@triton.jit
def wide_difference(query_place, key_place, length, times):
    """Absolute differences in int64 seconds."""
    query = tl.load(times[2] + tl.minimum(query_place, length - 1))
    key = tl.load(times[3] + tl.minimum(key_place, length - 1))
    return tl.abs(query - key)


@triton.jit
def buckets(query_place, key_place, length, times):
    """The bucket of each pair of a narrow tile: a logarithm never too high, put right by one comparison."""
    difference = narrow_difference(query_place, key_place, length, times)
    logarithm = tl.log2(tl.maximum(difference, 1).to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK
    estimate = logarithm.to(tl.int32)
    return estimate + (difference >= read(times[4], estimate + 1)).to(tl.int32)
