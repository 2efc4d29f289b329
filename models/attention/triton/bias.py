"""The bias of one tile, from positions and times.

Far from the diagonal all differences of a tile fall into one time bucket or a few: the tile then takes one
number, and one masked addition a bucket border. Otherwise each pair finds its bucket.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

import math

import triton
import triton.language as tl

from models.attention.bias import BUCKET_WIDTH, LAST_BUCKET
from models.attention.triton.times import LIMIT

_LIMIT = tl.constexpr(LIMIT)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_BUCKETS_PER_OCTAVE = tl.constexpr(math.log(2) / BUCKET_WIDTH)
# Far above the error of a logarithm in float32, far below a bucket.
_SLACK = tl.constexpr(1e-4)
# Up to this many borders, comparing with each costs less than finding each pair's bucket.
_FEW = tl.constexpr(6)


@triton.jit
def position_bias(bias, position, query_place, key_place, length):
    """Add `position[i - j]`, zero where j > i; rows past the end of the sequence read the last one's."""
    # Always true: within a branch the compiler does not copy these reads, which hit the cache, to shared
    # memory ahead of time, four bytes each.
    if length > 0:
        distance = tl.minimum(query_place, length - 1) - key_place
        bias += tl.load(position + distance, mask=distance >= 0, other=0.0)
    return bias


@triton.jit
def bucket_range(query_least, query_most, key_least, key_most):
    """Buckets between which all pairs of a tile lie, and whether 32-bit seconds tell (else all buckets).

    The range may be wider than need be by a border next to it.
    """
    narrow = (query_least > -_LIMIT) & (query_most < _LIMIT) & (key_least > -_LIMIT) & (key_most < _LIMIT)
    least = query_least - key_most
    most = query_most - key_least
    nearest = tl.maximum(tl.maximum(least, -most), 1)
    farthest = tl.maximum(tl.maximum(most, -least), 1)
    low = (tl.log2(nearest.to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK).to(tl.int32)
    high = (tl.log2(farthest.to(tl.float32)) * _BUCKETS_PER_OCTAVE + _SLACK).to(tl.int32)
    return tl.where(narrow, low, 0), tl.where(narrow, high, _LAST_BUCKET), narrow


@triton.jit
def time_bias(bias, time, low, high, narrow, query_place, key_place, length, start, times):
    """Add `time[bucket]`, given the range of buckets from `bucket_range`."""
    few = high - low <= _FEW
    if narrow & (high - low > _FEW):
        bucket = buckets(query_place, key_place, length, start, times)
        bias += tl.load(time + bucket)
    else:
        bias += tl.load(time + low)
        if high > low:
            if few:
                borders = times[4]
                difference = narrow_difference(query_place, key_place, length, start, times)
                for bucket in range(low + 1, high + 1):
                    rise = tl.load(time + bucket) - tl.load(time + bucket - 1)
                    bias += tl.where(difference >= tl.load(borders + bucket), rise, 0.0)
            else:
                # Slow, for sequences that span lifetimes.
                wide_borders = times[5]
                for bucket in range(low + 1, high + 1):
                    rise = tl.load(time + bucket) - tl.load(time + bucket - 1)
                    wide = wide_difference(query_place, key_place, length, start, times)
                    bias += tl.where(wide >= tl.load(wide_borders + bucket), rise, 0.0)
    return bias


# `times` is the tuple (seconds of queries, of keys, query times, timestamps, borders, wide borders).


@triton.jit
def narrow_difference(query_place, key_place, length, start, times):
    """Absolute differences in int32 seconds, where the bounds of the tile allow them."""
    query = tl.load(times[0] + start + tl.minimum(query_place, length - 1))
    key = tl.load(times[1] + start + tl.minimum(key_place, length - 1))
    return tl.abs(query - key)


@triton.jit
def wide_difference(query_place, key_place, length, start, times):
    """Absolute differences in int64 seconds."""
    query = tl.load(times[2] + start + tl.minimum(query_place, length - 1))
    key = tl.load(times[3] + start + tl.minimum(key_place, length - 1))
    return tl.abs(query - key)


@triton.jit
def buckets(query_place, key_place, length, start, times):
    """The bucket of each pair of a narrow tile: a logarithm never too high, put right by one comparison."""
    difference = narrow_difference(query_place, key_place, length, start, times)
    logarithm = tl.log2(tl.maximum(difference, 1).to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK
    estimate = logarithm.to(tl.int32)
    return estimate + (difference >= tl.load(times[4] + estimate + 1)).to(tl.int32)
