"""Runs of tiles far from the diagonal, which need neither a mask nor a bucket found pair by pair.

They have a loop of their own, in which what one tile's bias needs from memory is asked for a tile or two
ahead. Without the code for the other tiles a program takes so few registers that more of them run side by
side.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.triton.bias import (
    BORDERS,
    ONE,
    add_decay,
    add_rises,
    bucket_range,
    find_way,
    lowest_and_highest,
)
from models.attention.triton.reads import read_diagonals
from models.attention.triton.step import block_bounds

_ONE, _BORDERS = tl.constexpr(ONE), tl.constexpr(BORDERS)
# Tiles that a program looks at at once, to see how far a run goes.
_TILES = tl.constexpr(256)
# Threads of a warp.
_WARP = tl.constexpr(32)


@triton.jit
def find_run(
    query_least, query_most, bounds, num_blocks, begin, whole_begin, whole_end, end, length,
    SIZE: tl.constexpr,
):  # fmt: skip
    """Keys from `begin` to `end`: the place where the run that begins there stops, and where the next begins.

    Only tiles from `whole_begin` to `whole_end` need no mask. Either part may be empty, not both.
    """
    tile = begin + SIZE * tl.arange(0, _TILES)
    past = begin + SIZE * _TILES
    least, most = block_bounds(bounds, num_blocks, tile, length, SIZE)
    way, _, _ = find_way(query_least, query_most, least, most, True)
    simple = (way <= _BORDERS) & (tile >= whole_begin) & (tile < whole_end)
    stop = tl.min(tl.where(simple, past, tile))
    again = tl.min(tl.where(simple & (tile > stop), tile, past))
    return stop, tl.minimum(again, end)


@triton.jit
def no_spans():
    """What `spans_from` is given before the first tile of a run."""
    return tl.zeros((_WARP,), tl.int32), tl.zeros((_WARP,), tl.int32)


@triton.jit
def spans_from(
    spans, ahead, time, query_least, query_most, bounds, num_blocks, first, length, SIZE: tl.constexpr
):
    """The spans of a run's tiles, looked up where the tile `ahead` places from its begin needs new ones.

    Those of the next tiles at a time, one in each thread of a warp: packed ends, and bits of the least
    bucket's entry. Tiles past the run find some buckets.
    """
    if ahead % (_WARP * SIZE) == 0:
        tile = first + SIZE * tl.arange(0, _WARP)
        least, most = block_bounds(bounds, num_blocks, tile, length, SIZE)
        low, high = bucket_range(query_least - most, query_most - least)
        spans = ((low << 8) + high, tl.cast(tl.load(time + low), tl.int32, bitcast=True))
    return spans


@triton.jit
def pick(spans, ahead, SIZE: tl.constexpr):
    """Ends and entry of the tile `ahead` places from the run's begin: a sum over a warp is one instruction."""
    here = tl.arange(0, _WARP) * SIZE == ahead % (_WARP * SIZE)
    ends, bits = spans
    base = tl.cast(tl.sum(tl.where(here, bits, 0)), tl.float32, bitcast=True)
    return tl.sum(tl.where(here, ends, 0)), base


@triton.jit
def run_position(position, apart, QUERIES: tl.constexpr, KEYS: tl.constexpr):
    """[QUERIES, KEYS] what positions add to a tile of a run; past the last, to one nearer to the diagonal."""
    if position is not None:
        return read_diagonals(position, tl.maximum(apart, KEYS - 1), QUERIES, KEYS, 1)
    else:
        return tl.full((), 0.0, tl.float32)


@triton.jit
def first_rise(time, ends, times):
    """Border and entry of the second bucket, if the tile has one: read before the product, to arrive
    meanwhile."""
    low, high = lowest_and_highest(ends)
    border, above = tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)
    if high > low:
        border, above = tl.load(times[4] + low + 1), tl.load(time + low + 1)
    return border, above


@triton.jit
def half_run_scores(
    products, half_scale, placed, time, ends, base, query_seconds, key_seconds, rise, query_place, key_place, length,
    amount, rate, times, POWER: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile of a run."""
    half = products * half_scale + (0.5 * placed + 0.5 * base)
    low, high = lowest_and_highest(ends)
    if high > low:
        border, above = rise
        half = add_rises(half, time, times[4], query_seconds, key_seconds, low, high, base, border, above)
    return add_decay(half, query_place, key_place, length, amount, rate, times, POWER)
