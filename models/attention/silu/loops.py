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
from models.attention.silu.masking import count_tiles_of, join_ranges, place_of_tile
from models.attention.silu.simple_tiles import find_simple_range
from models.attention.silu.tile_bias import span_of_tile


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
    whole_begin, whole_end, masked = ranges
    if C.SPLIT and bias.time is not None:
        counts, ordered = counts_of(counts, program.start)
        whole_end = tl.where(ordered, whole_end, whole_begin)
        place, end = masked[0], masked[3]
        while place < end:
            stop, again = find_simple_range(
                program.seconds, place, whole_begin, whole_end, end, program.length, OWN_QUERIES, SIZE
            )
            if place < stop:
                state = ADD_SIMPLE_TILES(
                    state, own, streamed, program, place, stop, half_scale, bias, counts, C
                )
            state = _add_tiles(
                state, own, streamed, program, (stop, again, again, again, again, again), half_scale, bias,
                ADD_TILE, OWN_QUERIES, C,
            )  # fmt: skip
            place = again
    else:
        if C.SPLIT:
            # What is read ahead of no tile at all may lie before the table of positions.
            if bias.position is None or whole_begin < whole_end:
                state = ADD_SIMPLE_TILES(
                    state, own, streamed, program, whole_begin, whole_end, half_scale, bias, None, C
                )
        else:
            # One loop with the mask: half the code, compiled in half the time.
            masked = join_ranges(masked, C.MASK)
        state = _add_tiles(state, own, streamed, program, masked, half_scale, bias, ADD_TILE, OWN_QUERIES, C)
    return state


@triton.jit
def _add_tiles(
    state, own, streamed, program, ranges, half_scale, bias, ADD_TILE: tl.constexpr,
    OWN_QUERIES: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add all tiles of some ranges, with the mask. A tile's span is loaded one tile ahead."""
    OWN_SIZE: tl.constexpr = C.QUERIES if OWN_QUERIES else C.KEYS
    SIZE: tl.constexpr = C.KEYS if OWN_QUERIES else C.QUERIES
    place = place_of_tile(ranges, 0, SIZE, C.MASK)
    span = span_of_tile(bias.time, program, place, OWN_QUERIES, OWN_SIZE, SIZE)
    for number in tl.range(0, count_tiles_of(ranges, SIZE, C.MASK)):
        next_place = place_of_tile(ranges, number + 1, SIZE, C.MASK)
        next_span = span_of_tile(bias.time, program, next_place, OWN_QUERIES, OWN_SIZE, SIZE)
        state = ADD_TILE(state, own, streamed, program, place, half_scale, bias, span, C)
        place = next_place
        span = next_span
    return state
