"""Time buckets of differences, in whole seconds.

Of 64-bit differences: from the hardware's logarithm, corrected by one comparison. Of 32-bit ones: the first
bits of a difference as float32 say in which of a few cells it lies, four from a power of two to the next. No
cell has more than one boundary, so that one read and one comparison give the bucket.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import pairwise

import triton
import triton.language as tl

from models.attention.bias import BUCKET_STARTS, BUCKET_WIDTH, LAST_BUCKET
from models.attention.silu.mma_loads import fast_log2, load_at
from models.gpu.interpreter import INTERPRETED

_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_BUCKETS_PER_OCTAVE = tl.constexpr(math.log(2) / BUCKET_WIDTH)
# Far above the error of a logarithm in float32, far below a bucket.
_SLACK = tl.constexpr(1e-4)
# A float32 whose last bit is worth 1.
_ROUND = tl.constexpr(1.5 * 2**23)
_ROUND_BITS = tl.constexpr(0x4B400000)
_NATIVE = tl.constexpr(not INTERPRETED)
MOST = 2**31 - 1
"""The largest difference of 32 bits; no boundary lies there."""
CELLS_BEGIN = 130
"""Numbers of the 32-bit table of boundaries before those of cells, two each."""
_IGNORED_BITS = 21
"""Of a float32, but for which all bits say its cell."""
_LAST_CELL = 127 + 31 << 23 - _IGNORED_BITS
"""That of 2^31. No difference lies there, but the absolute value of -2^31, for which compilers take any."""
_CELLS_BEGIN, _IGNORED = tl.constexpr(CELLS_BEGIN), tl.constexpr(_IGNORED_BITS)
_FIND_IN_CELL = tl.constexpr(
    "{ .reg .f32 number; .reg .b32 cell, boundary, found; .reg .b64 place; .reg .pred beyond; "
    "cvt.rn.f32.u32 number, $1; mov.b32 cell, number; "
    f"shr.u32 cell, cell, {_IGNORED_BITS}; min.u32 cell, cell, {_LAST_CELL}; "
    "mad.wide.u32 place, cell, 8, $2; "
    "ld.global.nc.v2.u32 {boundary, found}, [place]; setp.ge.s32 beyond, $1, boundary; "
    "@beyond add.u32 found, found, 1; mov.b32 $0, found; }"
)


def bucket_cells() -> list[tuple[int, int]]:
    """Of each cell of float32 from 0 to 2^31: the only boundary in it, or `MOST`, and the bucket before."""
    one = 127 << 23 - _IGNORED_BITS  # the cell of 1
    least = [_least_of(cell) for cell in range(one, _LAST_CELL)] + [MOST + 1]
    cells = [(MOST, 0)] * one
    for first, behind in pairwise(least):
        bucket, highest = (bisect_right(BUCKET_STARTS, max(end, 1)) - 1 for end in (first, behind - 1))
        assert first == behind or highest - bucket in (0, 1)
        cells.append((BUCKET_STARTS[highest] if highest > bucket else MOST, bucket))
    return [*cells, (MOST, cells[-1][1] + (cells[-1][0] < MOST))]


def _least_of(cell: int) -> int:
    """The least whole number whose float32, the nearest one, lies in a cell."""
    power, rest = divmod(cell, 1 << 23 - _IGNORED_BITS)
    begin = (2.0 ** (power - 127)) * (1 + rest / (1 << 23 - _IGNORED_BITS))
    apart = 2.0 ** (power - 127 - 23 - (rest == 0))  # of the number before
    return math.ceil(begin - apart / 2)


@triton.jit
def find_bucket(difference, boundaries):
    """The bucket of each absolute difference, int64, given all boundaries in int64."""
    difference = tl.maximum(difference, 1)
    # Of the last bucket, and of what lies beyond it, the boundary is the last one too.
    estimate = tl.minimum(_estimate(difference), _LAST_BUCKET - 1)
    return estimate + (difference >= load_at(boundaries + 1, estimate)).to(tl.int32)


@triton.jit
def find_narrow_bucket(difference, boundaries):
    """The same of absolute differences in int32, given the 32-bit table of boundaries and cells: a third of
    the work. Of -2^31, the absolute value of that, it is any bucket."""
    cells = boundaries + _CELLS_BEGIN
    if _NATIVE:
        return tl.inline_asm_elementwise(
            _FIND_IN_CELL, "=r,r,l", [difference, cells.to(tl.int64)], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        number = difference.to(tl.uint32).to(tl.float32).to(tl.int32, bitcast=True)
        place = cells + 2 * (number >> _IGNORED)
        return tl.load(place + 1) + (difference >= tl.load(place)).to(tl.int32)


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
