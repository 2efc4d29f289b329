"""Gradient of the time table; see `table_gradient`.

Far from the diagonal a tile spans a bucket or a few. What lies beyond each boundary is summed pair by pair,
while the queries' gradients are computed (`query_gradients`). Near it tiles span many buckets, and the
gradients of their scores are stored, a band of 192 keys a query; `band_gradient` adds them up.

Of each tile two things are summed: its total, for its lowest bucket; and for each boundary above that, what
lies beyond. The gradient of a bucket is the total of the tiles whose lowest it is, plus what lies beyond its
lower boundary, minus what lies beyond the next.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import NUM_BUCKETS
from models.attention.silu.boundary_counts import beyond, load_counts
from models.attention.silu.bucket_table import NEAR
from models.attention.silu.diagonals import STRIPE, one_by_one
from models.attention.silu.mma_stores import store_tile
from models.attention.silu.tile_bias import lowest_and_highest
from models.attention.silu.tiles import BLOCK, LARGEST_TILE

HALF_SUMS = (NUM_BUCKETS + 1 + 7) // 8 * 8
"""Numbers of a stripe for tiles' lowest buckets, and as many for boundaries: one behind the last stays 0."""
STRIPE_SUMS = 2 * HALF_SUMS
"""Numbers of a stripe's time sums: so that not all programs add to the same ones at once."""
STRIPES = LARGEST_TILE // STRIPE
TIME_SUMS = STRIPES * STRIPE_SUMS
"""Numbers of a head's time sums, whatever the size of tiles."""
_HALF_SUMS, _STRIPE_SUMS, _STRIPES = tl.constexpr(HALF_SUMS), tl.constexpr(STRIPE_SUMS), tl.constexpr(STRIPES)
BAND = NEAR * BLOCK
"""Keys of a query in the band: of its own block of 64 tokens and the two before."""
BAND_MOST = 2**15
"""What the largest amount there can be is in the band: float16 holds it."""
_STRIPE, _BLOCK, _BAND = tl.constexpr(STRIPE), tl.constexpr(BLOCK), tl.constexpr(BAND)
_BAND_MOST = tl.constexpr(BAND_MOST)

# Below, `time_sums` are those of a head, and `scale` is the fixed-point scale: units of 1.


@triton.jit
def to_fixed_point(amount, scale):
    """An amount in int64 units, rounded towards zero."""
    return (amount * scale).to(tl.int64)


@triton.jit
def band_rows(band, head, tokens, start):
    """The first row of a sequence and a head in the band, `[heads, tokens, 192]`."""
    return band + (head.to(tl.int64) * tokens + start) * _BAND


@triton.jit
def band_begin(first_query):
    """The place of the band's first key for a tile of queries; it may be before the sequence."""
    return first_query // _BLOCK * _BLOCK - (_BAND - _BLOCK)


@triton.jit
def band_scale(limit):
    """Fixed-point units of 1 in the band; `limit` are those of the largest amount there can be."""
    return limit / _BAND_MOST


@triton.jit
def store_in_band(band, dscores, first_query, column, length, unit):
    """Store a tile's score gradients, times `unit`, from a column of the band on."""
    QUERIES: tl.constexpr = dscores.shape[0]
    # The rows of a larger tile have different bands.
    tl.static_assert(QUERIES <= _BLOCK)
    row = first_query + tl.arange(0, QUERIES)[:, None]
    store_tile(band + (first_query * _BAND + column), dscores * unit, _BAND, row < length)


@triton.jit
def add_lowest(rest, bucket, blocks, ends, time_sums, scale):
    """Add all of a tile to what its lowest bucket holds, and send that of the one before if it is another."""
    low, _ = lowest_and_highest(ends)
    if low != bucket:
        flush_lowest(rest, bucket, time_sums, scale)
        rest = tl.zeros_like(rest)
        bucket = low
    for number in tl.static_range(len(blocks)):
        rest += blocks[number]
    return rest, bucket


@triton.jit
def flush_lowest(rest, bucket, time_sums, scale):
    """Add what is pending, `[stripes, 8, 8]`, for a tile's lowest bucket."""
    _add_atomically(rest, time_sums + bucket, scale)


@triton.jit
def _add_atomically(parts, place, scale):
    """Add `[stripes, 8, 8]` up, and add each stripe's sum to its number; `place` is that of the first."""
    total = tl.sum(tl.sum(parts, axis=2), axis=1)
    place += tl.arange(0, total.shape[0]) * _STRIPE_SUMS
    tl.atomic_add(place, to_fixed_point(total, scale), sem="relaxed")


@triton.jit
def add_beyond_few(dscores, low, high, counts, first_query, first_key, time_sums, scale):
    """Add what lies beyond each boundary of a tile that spans few buckets, pair by pair, in order of
    time."""
    count = load_counts(counts, first_query, low + 1, dscores.shape[0])
    for boundary in tl.range(low + 1, high + 1, num_stages=1):
        reached = beyond(count, first_key, dscores.shape[1], True)
        count = load_counts(counts, first_query, boundary + 1, dscores.shape[0])
        _add_atomically(_sum_products(reached, dscores), time_sums + _HALF_SUMS + boundary, scale)


@triton.jit
def _sum_products(one, other):
    """`[stripes, 8, 8]`: the sum of all 8 x 8 blocks of each stripe of two tiles' products."""
    BLOCKS: tl.constexpr = one.shape[1] // 4
    STRIPES: tl.constexpr = one.shape[0] // _STRIPE
    one, other = _blocks(one), _blocks(other)
    total = one[0] * other[0]
    for number in tl.static_range(1, BLOCKS):
        total += one[number] * other[number]
    return tl.reshape(total, (STRIPES, 8, 8))


@triton.jit
def _blocks(tile):
    """The 8 x 8 blocks of all stripes, `[stripes * 64]` each."""
    BLOCKS: tl.constexpr = tile.shape[1] // 8
    STRIPES: tl.constexpr = tile.shape[0] // _STRIPE
    apart = tl.permute(tl.reshape(tile, (STRIPES, 2, 8, BLOCKS, 8)), (0, 2, 4, 1, 3))
    return one_by_one(tl.reshape(apart, (STRIPES * 64, 2 * BLOCKS)), 2 * BLOCKS)


@triton.jit
def add_beyond_of_pairs(dscores, found, low, high, time_sums, scale):
    """The same where each pair has its own bucket, `found`: slower, for any number of boundaries and any
    order of times. Buckets of pairs that are not seen may be any."""
    STRIPES: tl.constexpr = dscores.shape[0] // _STRIPE
    high = tl.minimum(high, tl.max(found))
    place = time_sums + _HALF_SUMS + tl.arange(0, STRIPES) * _STRIPE_SUMS
    for boundary in tl.range(low + 1, high + 1, num_stages=1):
        rows = tl.sum(tl.where(found >= boundary, dscores, 0.0), axis=1)
        total = tl.sum(tl.reshape(rows, (STRIPES, _STRIPE)), axis=1)
        tl.atomic_add(place + boundary, to_fixed_point(total, scale), sem="relaxed")


@triton.jit
def finalize_bucket(time_sums, bucket):
    """The sum of one bucket, a float32, from those of a head."""
    place = time_sums + bucket + tl.arange(0, _STRIPES) * _STRIPE_SUMS
    lowest, beyond = tl.load(place), tl.load(place + _HALF_SUMS)
    farther = tl.load(place + _HALF_SUMS + 1)
    return tl.sum(lowest + beyond - farther).to(tl.float32)
