"""Time buckets of differences: from the hardware's logarithm, corrected by comparing whole seconds once."""
# mypy: allow-untyped-defs

from __future__ import annotations

import math

import triton
import triton.language as tl

from models.attention.bias import BUCKET_WIDTH, LAST_BUCKET
from models.attention.silu.mma_loads import fast_log2, load_at

_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_BUCKETS_PER_OCTAVE = tl.constexpr(math.log(2) / BUCKET_WIDTH)
# Far above the error of a logarithm in float32, far below a bucket.
_SLACK = tl.constexpr(1e-4)
# A float32 whose last bit is worth 1.
_ROUND = tl.constexpr(1.5 * 2**23)
_ROUND_BITS = tl.constexpr(0x4B400000)


@triton.jit
def find_bucket(difference, boundaries):
    """The bucket of each absolute difference, int64, given all boundaries in int64."""
    difference = tl.maximum(difference, 1)
    # Of the last bucket, and of what lies beyond it, the boundary is the last one too.
    estimate = tl.minimum(_estimate(difference), _LAST_BUCKET - 1)
    return estimate + (difference >= load_at(boundaries + 1, estimate)).to(tl.int32)


@triton.jit
def _estimate(difference):
    """The bucket of differences from 1 on, or that before it."""
    below = fast_log2(difference.to(tl.float32)) * _BUCKETS_PER_OCTAVE - (0.5 + _SLACK)
    # To the nearest whole number, in the last bits: cheaper than the conversion, which tanh's unit does.
    return tl.cast(below + _ROUND, tl.int32, bitcast=True) - _ROUND_BITS


@triton.jit
def bucket_range(least, most):
    """The least and greatest bucket of differences in a range; they may be off by one, outwards."""
    nearest = tl.maximum(tl.maximum(least, -most), 1)
    farthest = tl.maximum(tl.maximum(most, -least), 1)
    low = (fast_log2(nearest.to(tl.float32)) * _BUCKETS_PER_OCTAVE - _SLACK).to(tl.int32)
    high = (fast_log2(farthest.to(tl.float32)) * _BUCKETS_PER_OCTAVE + _SLACK).to(tl.int32)
    return low, high
