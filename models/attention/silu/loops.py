"""The walk over tiles that the kernels for queries and for keys share.

A program owns the rows of its tiles, queries or keys, and streams through columns. Simple tiles
(`simple_tiles`) have a loop of their own; all others go through the general one. What a tile does to the
program's accumulators is each kernel's own: ADD_TILE for any tile, ADD_SIMPLE_TILES for a range of simple
ones.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.boundary_counts import counts_of
from models.attention.silu.masking import RICH, count_tiles_of, masked_ranges, place_of_tile
from models.attention.silu.simple_tiles import find_simple_range
from models.attention.silu.tile_bias import span_of_tile

_RICH = tl.constexpr(RICH)


@triton.jit
def add_all_tiles(
    state, own, streamed, program, ranges, half_scale, bias, counts,
    ADD_SIMPLE_TILES: tl.constexpr, ADD_TILE: tl.constexpr, OWN_QUERIES: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add all columns that a program's rows have to do with.

    Args:
        state: what is added to.
        own: tiles of the program's rows, and whatever else its kernel's functions want.
        streamed: the two tensors whose rows are the columns, from the sequence's first token on.
        program: `Program`.
        ranges: `TileRanges` of columns.
        counts: of the batch, see `boundary_counts`; only where there is a time table and SPLIT.
    """
    SIZE: tl.constexpr = C.KEYS if OWN_QUERIES else C.QUERIES
    if C.SPLIT and bias.time is not None:
        whole_end = ranges.whole_end
        counts = counts_of(counts, program.start)
        if C.COMPARED:
            whole_end = tl.where(counts[1], whole_end, ranges.whole_begin)
            counts = (counts[0], None)
        place, end = ranges.begin, ranges.end
        # What lies apart goes along with the first tiles: the general loop is in the code but once.
        apart = ranges.apart
        again = _any_tiles(apart, C.MASK)
        while (place < end) | again:
            stop, next_place = find_simple_range(
                program.seconds, place, ranges.whole_begin, whole_end, end, program.length, OWN_QUERIES, SIZE
            )  # fmt: skip
            if place < stop:
                state = ADD_SIMPLE_TILES(
                    state, own, streamed, program, place, stop, half_scale, bias, counts, C
                )
            masked = (stop, next_place)
            if C.MASK == _RICH:
                masked = masked + apart
                apart = (0 * end, 0 * end, 0 * end, 0 * end)
                again = end < end
            state = _add_tiles(
                state, own, streamed, program, masked, half_scale, bias, ADD_TILE, OWN_QUERIES, C
            )
            place = next_place
    else:
        if C.SPLIT:
            begin, end = ranges.whole_begin, ranges.whole_end
            # What is read ahead of no tile at all may lie before the table of positions.
            if bias.position is None or begin < end:
                state = ADD_SIMPLE_TILES(state, own, streamed, program, begin, end, half_scale, bias, None, C)
        # Without SPLIT one loop with the mask: half the code, compiled in half the time.
        masked = masked_ranges(ranges, C.SPLIT, C.MASK)
        state = _add_tiles(state, own, streamed, program, masked, half_scale, bias, ADD_TILE, OWN_QUERIES, C)
    return state


@triton.jit
def _any_tiles(apart, MASK: tl.constexpr):
    if MASK == _RICH:
        return (apart[0] < apart[1]) | (apart[2] < apart[3])
    else:
        return False


@triton.jit
def _add_tiles(
    state, own, streamed, program, ranges, half_scale, bias, ADD_TILE: tl.constexpr,
    OWN_QUERIES: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add all tiles of some ranges, with the mask. A tile's span is loaded one tile ahead."""
    OWN_SIZE: tl.constexpr = C.QUERIES if OWN_QUERIES else C.KEYS
    SIZE: tl.constexpr = C.KEYS if OWN_QUERIES else C.QUERIES
    place = place_of_tile(ranges, 0, SIZE)
    span = span_of_tile(bias.time, program, place, OWN_QUERIES, OWN_SIZE, SIZE, C.COMPARED)
    for number in tl.range(0, count_tiles_of(ranges, SIZE)):
        next_place = place_of_tile(ranges, number + 1, SIZE)
        next_span = span_of_tile(bias.time, program, next_place, OWN_QUERIES, OWN_SIZE, SIZE, C.COMPARED)
        state = ADD_TILE(state, own, streamed, program, place, half_scale, bias, span, C)
        place = next_place
        span = next_span
    return state
