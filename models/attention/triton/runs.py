"""Runs of tiles that need neither a mask nor a bucket found pair by pair: those far from the diagonal.

They have a loop of their own. In it, all that a tile's bias needs from memory is asked for before its first
product, and arrives meanwhile; and without the code for other tiles, there are registers for that.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.triton.bias import (
    BORDERS,
    add_decay,
    add_rises,
    find_way,
    lowest_and_highest,
)
from models.attention.triton.buckets import bucket_range
from models.attention.triton.reads import read_diagonals, read_row
from models.attention.triton.step import block_bounds

_BORDERS = tl.constexpr(BORDERS)
# With more borders a tile costs more in a run than outside.
_FEW = tl.constexpr(12)
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
    way, _, _ = find_way(query_least, query_most, least, most, True, _FEW)
    simple = (way <= _BORDERS) & (tile >= whole_begin) & (tile < whole_end)
    stop = tl.min(tl.where(simple, past, tile))
    again = tl.min(tl.where(simple & (tile > stop), tile, past))
    return stop, tl.minimum(again, end)


@triton.jit
def no_spans():
    """What `read_ahead` is given before the first tile of a run."""
    return tl.zeros((_WARP,), tl.int32), tl.zeros((_WARP,), tl.int32)


@triton.jit
def _spans_from(
    spans, ahead, time, query_least, query_most, bounds, num_blocks, first, length, SIZE: tl.constexpr
):
    """The spans of a run's tiles, looked up where the tile `ahead` places from its begin needs new ones.

    Those of the next tiles at a time, one in each thread of a warp: packed ends, and bits of the least
    bucket's entry. Tiles past the run find some buckets.
    """
    if time is not None:  # noqa: SIM102
        if ahead % (_WARP * SIZE) == 0:
            tile = first + SIZE * tl.arange(0, _WARP)
            least, most = block_bounds(bounds, num_blocks, tile, length, SIZE)
            low, high = bucket_range(query_least - most, query_most - least)
            spans = ((low << 8) + high, tl.cast(tl.load(time + low), tl.int32, bitcast=True))
    return spans


@triton.jit
def read_ahead(
    spans, begin, position, time, query_least, query_most, bounds, num_blocks, first_query, first_key, length,
    times, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The spans of the next tiles of a run from `begin` on, given those before; and what the bias of a tile
    takes from memory, but for its third bucket and more: what positions add, seconds of keys, packed ends,
    and the least bucket's entry, the next one's border and entry. Read before the product, to arrive
    meanwhile.

    Zeros for what there is not.
    """
    ahead = first_key - begin
    spans = _spans_from(
        spans, ahead, time, query_least, query_most, bounds, num_blocks, first_key, length, KEYS
    )
    zero, nothing = tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)
    placed = nothing
    if position is not None:
        placed = read_diagonals(position, first_query - first_key, QUERIES, KEYS, 1)
    seconds, ends, base, border, above = zero, zero, nothing, zero, nothing
    if time is not None:
        here = tl.arange(0, _WARP) * KEYS == ahead % (_WARP * KEYS)
        # A sum of integers over a warp is one instruction.
        ends = tl.sum(tl.where(here, spans[0], 0))
        base = tl.cast(tl.sum(tl.where(here, spans[1], 0)), tl.float32, bitcast=True)
        seconds = read_row(times[1], first_key, KEYS)
        low, high = lowest_and_highest(ends)
        if high > low:
            border, above = tl.load(times[4] + low + 1), tl.load(time + low + 1)
    return spans, (placed, seconds, ends, base, border, above)


@triton.jit
def half_run_scores(
    products, half_scale, reads, position, time, query_seconds, query_place, key_place, length, amount, rate,
    times, POWER: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile of a run, given what was read ahead."""
    placed, key_seconds, ends, base, border, above = reads
    half = products * half_scale
    if time is not None:
        half += 0.5 * base
    if position is not None:
        # Added to the base first, once for each different position, it would hold up the product: the
        # compiler puts those sums, and with them the wait for memory, before the product's last part.
        half += 0.5 * placed
    if time is not None:
        low, high = lowest_and_highest(ends)
        if high > low:
            half = add_rises(half, time, times[4], query_seconds, key_seconds, low, high, base, border, above)
    return add_decay(half, query_place, key_place, length, amount, rate, times, POWER)
