"""Ranges of simple tiles: fully visible ones that span few bucket boundaries.

They have a loop of their own. In it, all that a tile's bias loads from memory is prefetched: what is
requested after rows of other tensors arrives behind all of these. Forward and the kernel for the queries
prefetch one tile ahead; that for the keys, whose registers are full, before its product.

A program owns the rows of its tiles, queries or keys, and streams through columns.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.silu.boundary_counts import beyond, load_counts
from models.attention.silu.buckets import bucket_range
from models.attention.silu.mma_loads import load_at, load_diagonals
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_bias import (
    BOUNDARIES,
    add_decay,
    add_reached_rises,
    classify_tiles,
    differences,
    load_seconds,
    lowest_and_highest,
)
from models.attention.silu.tile_io import block_bounds

_BOUNDARIES, _LAST_BUCKET = tl.constexpr(BOUNDARIES), tl.constexpr(LAST_BUCKET)
# With more boundaries a tile costs more in a run than outside.
_FEW = tl.constexpr(12)
# Tiles that a program looks at at once, to see how far a run goes.
_TILES = tl.constexpr(256)
# Threads of a warp.
_WARP = tl.constexpr(32)


@triton.jit
def find_simple_range(
    seconds, begin, whole_begin, whole_end, end, length, OWN_QUERIES: tl.constexpr, SIZE: tl.constexpr
):
    """Columns from `begin` to `end`: the place where the run that begins there stops, and the next begins.

    Only tiles from `whole_begin` to `whole_end` need no mask. Either part may be empty, not both.
    """
    tile = begin + SIZE * tl.arange(0, _TILES)
    past = begin + SIZE * _TILES
    least, most = block_bounds(seconds.bounds, seconds.num_blocks, tile, length, SIZE)
    mode, _, _ = classify_tiles(seconds.least, seconds.most, least, most, OWN_QUERIES, _FEW)
    simple = (mode <= _BOUNDARIES) & (tile >= whole_begin) & (tile < whole_end)
    stop = tl.min(tl.where(simple, past, tile))
    again = tl.min(tl.where(simple & (tile > stop), tile, past))
    return stop, tl.minimum(again, end)


@triton.jit
def no_spans():
    """What `prefetch` is given before the first tile of a run."""
    return tl.zeros((_WARP,), tl.int32), tl.zeros((_WARP,), tl.int32)


@triton.jit
def _spans_from(spans, ahead, time, program, first, OWN_QUERIES: tl.constexpr, SIZE: tl.constexpr):
    """The spans of a run's tiles, looked up where the tile `ahead` places from its begin needs new ones.

    Those of the next tiles at a time, one in each thread of a warp: packed ends, and bits of the least
    bucket's entry. Tiles past the run find some buckets.
    """
    if time is not None:  # noqa: SIM102
        if ahead % (_WARP * SIZE) == 0:
            tile = first + SIZE * tl.arange(0, _WARP)
            seconds = program.seconds
            least, most = block_bounds(seconds.bounds, seconds.num_blocks, tile, program.length, SIZE)
            least, most = differences(seconds.least, seconds.most, least, most, OWN_QUERIES)
            low, high = bucket_range(least, most)
            spans = ((low << 8) + high, tl.cast(load_at(time, low), tl.int32, bitcast=True))
    return spans


@triton.jit
def prefetch(
    spans, begin, bias, program, first_column, counts,
    OWN_QUERIES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The spans of the next tiles of a run from `begin` on, given those before; and what the bias of a tile
    takes from memory, but for its third bucket and more: what positions add, packed ends, the least bucket's
    entry, and the next one's, with counts of what lies beyond the boundary between them (`boundary_counts`).

    Zeros for what there is not.
    """
    SIGN: tl.constexpr = 1 if OWN_QUERIES else -1
    ahead = first_column - begin
    spans = _spans_from(spans, ahead, bias.time, program, first_column, OWN_QUERIES, COLUMNS)
    zero, nothing = tl.full((), 0, tl.int32), tl.full((), 0.0, tl.float32)
    placed = nothing
    if bias.position is not None:
        placed = load_diagonals(bias.position, SIGN * (program.first - first_column), ROWS, COLUMNS, SIGN)
    ends, base, above, count = zero, nothing, nothing, nothing
    if bias.time is not None:
        here = tl.arange(0, _WARP) * COLUMNS == ahead % (_WARP * COLUMNS)
        # A sum of integers over a warp is one instruction.
        ends = tl.sum(tl.where(here, spans[0], 0))
        base = tl.cast(tl.sum(tl.where(here, spans[1], 0)), tl.float32, bitcast=True)
        low, _ = lowest_and_highest(ends)
        above = load_at(bias.time, tl.minimum(low + 1, _LAST_BUCKET))
        count = load_counts(counts[0], program.first, low + 1, ROWS)
    return spans, (placed, ends, base, above, count)


@triton.jit
def after_prefetch(scores, prefetched, bias):
    """Scores, computed once all loads of `prefetch` for the next tile are issued: before more rows of
    other tensors are."""
    if bias.position is not None:
        scores = tie(scores, prefetched[0])
    if bias.time is not None:
        scores = tie(scores, prefetched[4])
    return scores


@triton.jit
def half_simple_scores(
    products, half_scale, prefetched, bias, counts, first_row, first_column, query_index, key_index, length,
    OWN_QUERIES: tl.constexpr, POWER: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile of a run, given what was read ahead."""
    placed, ends, base, above, count = prefetched
    half = products * half_scale
    if bias.time is not None:
        half += 0.5 * base
    if bias.position is not None:
        # Added to the base first, once for each different position, it would hold up the product: the
        # compiler puts those sums, and with them the wait for memory, before the product's last part.
        half += 0.5 * placed
    if bias.time is not None:
        low, high = lowest_and_highest(ends)
        # Within an `if`: the compiler reads no tiles ahead in a loop that holds another loop directly.
        if high > low:
            # Not `or`: one of them is known when this is compiled.
            if counts[1] is None:  # noqa: SIM114
                half = _add_rises(
                    half, bias.time, counts[0], low, high, first_row, first_column, base, above, count,
                    OWN_QUERIES,
                )  # fmt: skip
            elif counts[1]:
                half = _add_rises(
                    half, bias.time, counts[0], low, high, first_row, first_column, base, above, count,
                    OWN_QUERIES,
                )  # fmt: skip
            else:
                if OWN_QUERIES:
                    seconds = load_seconds(first_row, first_column, query_index, key_index, bias.times)
                else:
                    seconds = load_seconds(first_column, first_row, query_index, key_index, bias.times)
                half = add_reached_rises(half, bias.time, bias.times, seconds, low, high, base, above)
    return add_decay(half, query_index, key_index, length, bias, POWER)


@triton.jit
def _add_rises(
    half, time, counts, low, high, first_row, first_column, below, above, count, OWN_QUERIES: tl.constexpr
):
    """Add `(time[bucket] - below) / 2` for buckets from low to high, `below` the entry of low, `above` that
    of the next, and `count` of what lies beyond the boundary between them."""
    # Counts and entry of the next bucket are read while one is added.
    for bucket in tl.range(low + 2, high + 2, num_stages=1):
        rise = 0.5 * (above - below)
        reached = beyond(count, first_column, half.shape[1], OWN_QUERIES)
        below = above
        above = tl.load(time + tl.minimum(bucket, _LAST_BUCKET))
        count = load_counts(counts, first_row, bucket, half.shape[0])
        half += rise * reached
    return half
