"""Gradient of the time table, summed while the queries' gradients are computed; see `table_gradient`.

Far from the diagonal a tile spans a bucket or a few, and what lies beyond each border is summed pair by pair.
Near it, it spans many. But where the times of a sequence are in order, the tokens that lie beyond a border are
the first ones, and `older` says how many. What they give in a tile is an entry of the running sums along each
query's row, and all running sums are one product with a triangle of ones: so the tile costs that product and
an entry a border and row, and nothing that grows with pairs times borders.

Of each tile two things are summed: all it gives, for its lowest bucket; and for each border above that, what
lies beyond. The gradient of a bucket is all of the tiles whose lowest it is, and what lies beyond its border,
without what lies beyond the next.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import NUM_BUCKETS
from models.attention.triton.bias import lowest_and_highest, reach
from models.attention.triton.diagonals import STRIPE, one_by_one
from models.attention.triton.older import BORDERS
from models.attention.triton.reads import read
from models.attention.triton.sight import RICH

HALF_SUMS = (NUM_BUCKETS + 1 + 7) // 8 * 8
"""Numbers of a stripe for tiles' lowest buckets, and as many for borders: one behind the last stays 0."""
STRIPE_SUMS = 2 * HALF_SUMS
"""Numbers of a stripe's time sums: so that not all programs add to the same ones at once."""
_HALF_SUMS, _STRIPE_SUMS = tl.constexpr(HALF_SUMS), tl.constexpr(STRIPE_SUMS)
_STRIPE, _BORDERS = tl.constexpr(STRIPE), tl.constexpr(BORDERS)
_RICH = tl.constexpr(RICH)
# Borders that are looked at at once: one in each thread of a warp.
_AT_ONCE = tl.constexpr(32)

# Below, `time_sums` are those of a head, and `scale` is how many whole numbers an amount of 1 is.


@triton.jit
def from_first(older, start):
    """The counts of a sequence, given its first token."""
    return older + start * _BORDERS


@triton.jit
def is_in_order(older, first_query, rule, MASK: tl.constexpr):
    """Whether a tile of queries is of a sequence whose times are in order, and sees no key ahead."""
    ordered = tl.load(older + first_query * _BORDERS) >= 0
    if MASK == _RICH:
        ordered = ordered & (first_query >= rule[2])
    return ordered


@triton.jit
def add_lowest(rest, bucket, blocks, ends, time_sums, scale):
    """Add all of a tile to what its lowest bucket holds, and send that of the one before if it is another."""
    low, _ = lowest_and_highest(ends)
    if low != bucket:
        send_lowest(rest, bucket, time_sums, scale)
        rest = tl.zeros_like(rest)
        bucket = low
    for number in tl.static_range(len(blocks)):
        rest += blocks[number]
    return rest, bucket


@triton.jit
def send_lowest(rest, bucket, time_sums, scale):
    """Send what is held, `[stripes, 8, 8]`, for a tile's lowest bucket."""
    _send(rest, time_sums + bucket, scale)


@triton.jit
def _send(parts, place, scale):
    """Add `[stripes, 8, 8]` up, and add each stripe's sum to its number; `place` is that of the first."""
    total = tl.sum(tl.sum(parts, axis=2), axis=1)
    place += tl.arange(0, total.shape[0]) * _STRIPE_SUMS
    tl.atomic_add(place, (total * scale).to(tl.int64), sem="relaxed")


@triton.jit
def add_beyond_few(dscores, ends, query_seconds, key_seconds, borders, time_sums, scale):
    """Send what lies beyond each border of a tile that spans few buckets, pair by pair."""
    low, high = lowest_and_highest(ends)
    for border in tl.range(low + 1, high + 1, num_stages=1):
        reached = reach(query_seconds, key_seconds, tl.load(borders + border))
        _send(_sum_reached(reached, dscores), time_sums + _HALF_SUMS + border, scale)


@triton.jit
def _sum_reached(reached, tile):
    """`[stripes, 8, 8]`: the sum of all 8 x 8 blocks of each stripe, where a tile of bool is true."""
    BLOCKS: tl.constexpr = tile.shape[1] // 4
    STRIPES: tl.constexpr = tile.shape[0] // _STRIPE
    reached = _blocks(reached)
    tile = _blocks(tile)
    total = tl.where(reached[0], tile[0], 0.0)
    for number in tl.static_range(1, BLOCKS):
        # One addition, done or not: two instructions with the comparison.
        total = tl.where(reached[number], total + tile[number], total)
    return tl.reshape(total, (STRIPES, 8, 8))


@triton.jit
def _blocks(tile):
    """The 8 x 8 blocks of all stripes, `[stripes * 64]` each."""
    BLOCKS: tl.constexpr = tile.shape[1] // 8
    STRIPES: tl.constexpr = tile.shape[0] // _STRIPE
    apart = tl.permute(tl.reshape(tile, (STRIPES, 2, 8, BLOCKS, 8)), (0, 2, 4, 1, 3))
    return one_by_one(tl.reshape(apart, (STRIPES * 64, 2 * BLOCKS)), 2 * BLOCKS)


@triton.jit
def add_beyond_many(
    dscores, ends, first_query, first_key, length, older, time_sums, scale, PRECISION: tl.constexpr
):  # fmt: skip
    """Send what lies beyond each border of a tile of any number of buckets, whose times are in order.

    `dscores` are of the type of q and k.
    """
    QUERIES: tl.constexpr = dscores.shape[0]
    KEYS: tl.constexpr = dscores.shape[1]
    STRIPES: tl.constexpr = QUERIES // _STRIPE
    low, high = lowest_and_highest(ends)
    query_place = tl.minimum(first_query + tl.arange(0, QUERIES), length - 1)[:, None]
    key = tl.arange(0, KEYS)
    triangle = (key[:, None] <= key[None, :]).to(dscores.dtype)
    parts = _parts(tl.dot(dscores, triangle, input_precision=PRECISION))
    place = time_sums + (_HALF_SUMS + tl.arange(0, STRIPES)[:, None] * _STRIPE_SUMS)
    for first in tl.range(low + 1, high + 1, _AT_ONCE, num_stages=1):
        border = first + tl.arange(0, _AT_ONCE)[None, :]
        count = read(older, query_place * _BORDERS + (tl.minimum(border, _BORDERS) - 1))
        # The last of them in the tile.
        last = tl.minimum(count - first_key, KEYS) - 1
        found = tl.zeros((QUERIES, _AT_ONCE), tl.float32)
        for number in tl.static_range(len(parts)):
            inner = last - number * _AT_ONCE
            here = tl.gather(parts[number], tl.maximum(inner, 0) % _AT_ONCE, axis=1)
            found = tl.where(inner >= 0, here, found)
        # Rows as far apart as there are stripes: those of one warp, as the compiler deals them out.
        total = tl.sum(tl.reshape(found, (_STRIPE, STRIPES, _AT_ONCE)), axis=0)
        tl.atomic_add(place + border, (total * scale).to(tl.int64), mask=border <= high, sem="relaxed")


@triton.jit
def _parts(running):
    """`[queries, 32]` each: an entry of one is looked up by one exchange between the threads of a warp."""
    KEYS: tl.constexpr = running.shape[1]
    if KEYS == _AT_ONCE:
        return (running,)
    else:
        halves = tl.permute(tl.reshape(running, (running.shape[0], 2, KEYS // 2)), (0, 2, 1))
        first, second = tl.split(halves)
        return _parts(first) + _parts(second)


@triton.jit
def add_beyond_of_pairs(dscores, found, ends, time_sums, scale):
    """The same where each pair has its own bucket, `found`: slowly, for times in any order."""
    low, high = lowest_and_highest(ends)
    for border in tl.range(low + 1, high + 1, num_stages=1):
        total = tl.sum(tl.where(found >= border, dscores, 0.0))
        tl.atomic_add(time_sums + _HALF_SUMS + border, (total * scale).to(tl.int64), sem="relaxed")


@triton.jit
def settle_bucket(time_sums, bucket, STRIPES: tl.constexpr):
    """The sum of one bucket, a float32, from those of a head."""
    place = time_sums + bucket + tl.arange(0, STRIPES) * _STRIPE_SUMS
    lowest, beyond = tl.load(place), tl.load(place + _HALF_SUMS)
    farther = tl.load(place + _HALF_SUMS + 1)
    return tl.sum(lowest + beyond - farther).to(tl.float32)
