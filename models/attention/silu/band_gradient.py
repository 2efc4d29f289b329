"""The time table's gradient from tiles near the diagonal, which span many buckets.

Where the times of a sequence are in order, the keys beyond a bucket boundary are the first ones, and
`keys_beyond` says how many. So what they contribute in a tile is one entry of the prefix sums along each
query's row, and all prefix sums are one product with a lower-triangular matrix of ones: a tile costs that
product and one look-up a boundary and row, and nothing that grows with pairs times boundaries.

This is a kernel of its own since it is bound by latency and needs few registers: many programs share a
multiprocessor.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.boundary_counts import BOUNDARIES
from models.attention.silu.kernel_arguments import TimeColumns
from models.attention.silu.masking import RICH, is_visible, load_rule
from models.attention.silu.mma_loads import load_at
from models.attention.silu.tile_bias import classify_tiles, pair_buckets
from models.attention.silu.tile_io import UNSPECIALIZED, block_bounds, load_tile_entry
from models.attention.silu.tiles import BLOCK
from models.attention.silu.time_gradient import (
    BAND,
    HALF_SUMS,
    STRIPE_SUMS,
    add_beyond_of_pairs,
    band_begin,
    band_rows,
    band_scale,
    to_fixed_point,
)

_BLOCK, _BAND, _BOUNDARIES = tl.constexpr(BLOCK), tl.constexpr(BAND), tl.constexpr(BOUNDARIES)
_HALF_SUMS, _STRIPE_SUMS = tl.constexpr(HALF_SUMS), tl.constexpr(STRIPE_SUMS)
_RICH = tl.constexpr(RICH)
# Programs have 4 warps. Each adds to a copy of its own, that of a stripe.
_COPIES = tl.constexpr(4)
# Boundaries that are looked at at once: one in each thread of a warp.
_AT_ONCE = tl.constexpr(32)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def band_kernel(
    band, time_sums, time_row, keys_beyond, limit, tiles, num_tiles, rules, num_sequences,
    query_time, timestamp, bounds, wide_boundaries, tokens, num_blocks, window, front, context,
    MASK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the band's score gradients to the time sums: a program for each head, block of queries, and block
    of keys."""
    head = tl.program_id(0) // (_BAND // _BLOCK)
    column = tl.program_id(0) % (_BAND // _BLOCK) * _BLOCK
    start, length, number, blocks, sequence = load_tile_entry(tiles, num_tiles, tl.program_id(1))
    if length == 0:
        return
    rule, _ = load_rule(rules, num_sequences, sequence, start, length, window, front, context, MASK)
    query_time += start
    timestamp += start
    first_query = number * _BLOCK
    first_key = band_begin(first_query) + column
    if first_key < 0:
        return
    band = band_rows(band, head, tokens, start)
    keys_beyond += start * _BOUNDARIES
    time_sums += head * time_row
    scale = band_scale(limit)
    query_least, query_most = block_bounds(bounds + blocks, num_blocks, first_query, length, _BLOCK)
    key_bounds = bounds + 2 * num_blocks + blocks
    # Counts are -1 where times are not in order. Context sees keys ahead.
    ordered = tl.load(keys_beyond + first_query * _BOUNDARIES) >= 0
    if MASK == _RICH:
        ordered = ordered & (first_query >= rule.context)
    query_index = first_query + tl.arange(0, _BLOCK)[:, None]
    key_index = first_key + tl.arange(0, _BLOCK)[None, :]
    place = band + query_index * _BAND + (column + tl.arange(0, _BLOCK)[None, :])
    exists = (query_index < length) & (query_index >= rule.skip)
    dscores = tl.load(place, mask=exists, other=0.0)
    # What no query sees may never have been written.
    seen = is_visible(query_index, key_index, rule, MASK) & (key_index < length)
    dscores = tl.where(seen, dscores, 0.0)
    least, greatest = block_bounds(key_bounds, num_blocks, first_key, length, _BLOCK)
    _way, low, high = classify_tiles(query_least, query_most, least, greatest, True, 0)
    _add_lowest(dscores, time_sums + low, scale)
    if high > low:
        if ordered:
            counts = keys_beyond + tl.minimum(query_index, length - 1) * _BOUNDARIES
            beyond = time_sums + _HALF_SUMS
            _add_beyond(dscores, low, high, counts, first_key, beyond, scale, PRECISION)
        else:
            times = TimeColumns(None, None, query_time, timestamp, None, wide_boundaries, None)
            found = pair_buckets(query_index, key_index, length, times)
            add_beyond_of_pairs(dscores.to(tl.float32), found, low, high, time_sums, scale)


@triton.jit
def _add_lowest(dscores, place, scale):
    """Add all of a tile to the sums of its lowest bucket."""
    rows = tl.sum(dscores.to(tl.float32), axis=1)
    _add_atomically(tl.reshape(rows, (_BLOCK // _COPIES, _COPIES, 1)), place, 0, 1, scale)


@triton.jit
def _add_beyond(dscores, low, high, counts, first_key, place, scale, PRECISION: tl.constexpr):
    """Add what lies beyond each boundary of a tile whose times are in order; `counts` are rows of
    `keys_beyond`."""
    key = tl.arange(0, _BLOCK)
    triangle = (key[:, None] <= key[None, :]).to(dscores.dtype)
    running = tl.dot(dscores, triangle, input_precision=PRECISION)
    # Entries of 32 are looked up by one exchange between the threads of a warp.
    halves = tl.permute(tl.reshape(running, (_BLOCK, 2, _BLOCK // 2)), (0, 2, 1))
    nearer, farther = tl.split(halves)
    for first in tl.range(low + 1, high + 1, _AT_ONCE, num_stages=1):
        boundary = first + tl.arange(0, _AT_ONCE)[None, :]
        # The last key of the tile that lies beyond.
        last = (
            tl.minimum(
                load_at(counts, tl.minimum(boundary, _BOUNDARIES) - 1).to(tl.int32) - first_key, _BLOCK
            )
            - 1
        )
        inner = tl.maximum(last, 0) % _AT_ONCE
        found = tl.where(last < _AT_ONCE, tl.gather(nearer, inner, axis=1), tl.gather(farther, inner, axis=1))
        found = tl.where(last >= 0, found, 0.0)
        _add_atomically(
            tl.reshape(found, (_BLOCK // _COPIES, _COPIES, _AT_ONCE)), place, first, high + 1, scale
        )


@triton.jit
def _add_atomically(parts, place, first, end, scale):
    """Add `[rows, copies, numbers]` over rows to the numbers from `first` to `end - 1`, each copy to its own
    sums. Rows as far apart as there are copies: those of one warp, as the compiler deals them out."""
    total = tl.sum(parts, axis=0)
    number = first + tl.arange(0, total.shape[1])[None, :]
    copy = tl.arange(0, total.shape[0])[:, None]
    # The mask is of the whole shape: as it is interpreted, an atomic addition does not extend it.
    exists = (number < end) & (copy >= 0)
    place = place + (copy * _STRIPE_SUMS + number)
    tl.atomic_add(place, to_fixed_point(total, scale), mask=exists, sem="relaxed")
