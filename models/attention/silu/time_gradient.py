"""Gradient of the time table; see `table_gradient`.

A tile that lies in one bucket is added up to it. Where it spans a few, all goes to the lowest, and what lies
beyond each further boundary is moved up. Near the diagonal, and where times are in no order, tiles span many
buckets: there each pair adds to its own. All of that in shared memory (`shared_sums`).
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import NUM_BUCKETS
from models.attention.silu.boundary_counts import beyond, load_counts
from models.attention.silu.bucket_table import unpack
from models.attention.silu.shared_sums import add_alike, add_pairs, flush_if_full, move_beyond
from models.attention.silu.tile_bias import (
    buckets_of_tile,
    is_far,
    load_seconds,
    lowest_and_highest,
    reach,
)

TIME_SUMS = (NUM_BUCKETS + 7) // 8 * 8
"""Numbers of a head's time sums."""


@triton.jit
def add_times_of_simple_tile(
    tiles, dscores, first_query, first_key, query_index, key_index, ends, counts, times, sums,
    WAY: tl.constexpr,
):  # fmt: skip
    """Add a simple tile, and return how many are in `shared_sums`, given how many were."""
    low, high = lowest_and_highest(ends)
    tiles = flush_if_full(tiles, sums, WAY) + 1
    add_alike(dscores, low, sums, WAY)
    # Within an `if`: the compiler reads no tiles ahead in a loop that holds another loop directly.
    if high > low:
        if counts[1]:
            count = load_counts(counts[0], first_query, low + 1, dscores.shape[0])
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                reached = beyond(count, first_key, dscores.shape[1], True)
                count = load_counts(counts[0], first_query, bucket + 1, dscores.shape[0])
                move_beyond(dscores, reached, bucket, sums, WAY)
        else:
            # Not in order.
            query, key = load_seconds(first_query, first_key, query_index, key_index, times)
            for bucket in tl.range(low + 1, high + 1, num_stages=1):
                reached = reach(query, key, tl.load(times.boundaries + bucket)).to(tl.float32)
                move_beyond(dscores, reached, bucket, sums, WAY)
    return tiles


@triton.jit
def add_times_of_tile(
    tiles, dscores, first_query, first_key, query_index, key_index, length, span, packed, times, sums,
    WAY: tl.constexpr,
):  # fmt: skip
    """The same of any tile, zeros where a query does not see a key; `packed` are its buckets, if found."""
    mode, ends, _ = span
    low, high = lowest_and_highest(ends)
    tiles = flush_if_full(tiles, sums, WAY) + 1
    if high > low:
        if packed is not None:
            found = unpack(packed, dscores)
        else:
            found = buckets_of_tile(
                dscores, mode, ends, first_query, first_key, query_index, key_index, length, times
            )
        add_pairs(dscores, found, is_far(ends), sums, WAY)
    else:
        add_alike(dscores, low, sums, WAY)
    return tiles
