"""The loops that the kernels for queries and for keys share: which tiles a program goes through, and how.

A program owns the rows of its tiles, queries or keys, and streams through columns. Tiles that need no mask,
and whose pairs fall into few buckets (`runs`), have a loop of their own; all others go through the general
one. What a tile does to the program's state is each kernel's own: ADD_TILE for any tile, ADD_RUN for a range
of simple ones.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.bias import outlook
from models.attention.silu.crossings import counts_of
from models.attention.silu.runs import find_run
from models.attention.silu.sight import count_all, join, place_of


@triton.jit
def add_all_tiles(
    state, own, streamed, program, ranges, half_scale, bias, counts,
    ADD_RUN: tl.constexpr, ADD_TILE: tl.constexpr, OWN_QUERIES: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add all columns that a program's rows have to do with.

    Args:
        state: what is added to.
        own: tiles of the program's rows, and whatever else its kernel's functions want.
        streamed: the two tensors whose rows are the columns, from the sequence's first token on.
        program: `Program`.
        ranges: `TileRanges` of columns.
        counts: of the batch, see `crossings`; only where there is a time table and SPLIT.
    """
    SIZE: tl.constexpr = C.KEYS if OWN_QUERIES else C.QUERIES
    whole_begin, whole_end, masked = ranges
    if C.SPLIT and bias.time is not None:
        counts, ordered = counts_of(counts, program.start)
        whole_end = tl.where(ordered, whole_end, whole_begin)
        place, end = masked[0], masked[3]
        while place < end:
            stop, again = find_run(
                program.seconds, place, whole_begin, whole_end, end, program.length, OWN_QUERIES, SIZE
            )
            if place < stop:
                state = ADD_RUN(state, own, streamed, program, place, stop, half_scale, bias, counts, C)
            state = _add_tiles(
                state, own, streamed, program, (stop, again, again, again, again, again), half_scale, bias,
                ADD_TILE, OWN_QUERIES, C,
            )  # fmt: skip
            place = again
    else:
        if C.SPLIT:
            state = ADD_RUN(state, own, streamed, program, whole_begin, whole_end, half_scale, bias, None, C)
        else:
            # One loop with the mask: half the code, compiled in half the time.
            masked = join(masked, C.MASK)
        state = _add_tiles(state, own, streamed, program, masked, half_scale, bias, ADD_TILE, OWN_QUERIES, C)
    return state


@triton.jit
def _add_tiles(
    state, own, streamed, program, ranges, half_scale, bias, ADD_TILE: tl.constexpr,
    OWN_QUERIES: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Add all tiles of some ranges, with the mask. A tile's span is asked for one tile ahead."""
    OWN_SIZE: tl.constexpr = C.QUERIES if OWN_QUERIES else C.KEYS
    SIZE: tl.constexpr = C.KEYS if OWN_QUERIES else C.QUERIES
    place = place_of(ranges, 0, SIZE, C.MASK)
    span = outlook(bias.time, program, place, OWN_QUERIES, OWN_SIZE, SIZE)
    for step in tl.range(0, count_all(ranges, SIZE, C.MASK)):
        next_place = place_of(ranges, step + 1, SIZE, C.MASK)
        next_span = outlook(bias.time, program, next_place, OWN_QUERIES, OWN_SIZE, SIZE)
        state = ADD_TILE(state, own, streamed, program, place, half_scale, bias, span, C)
        place = next_place
        span = next_span
    return state
