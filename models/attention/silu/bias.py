"""The bias of one tile, from positions and times, added to halved scores.

Far from the diagonal all differences of a tile fall into one time bucket or a few: the tile then takes one
number, and one masked addition a bucket border. Near it each pair looks its bucket up (`near`). Otherwise
each finds it.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, SIM108 (Triton has branches at compile time as statements)

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.silu.buckets import bucket_range, find_bucket
from models.attention.silu.near import add_near, is_near
from models.attention.silu.reads import read, read_column, read_diagonals, read_row
from models.attention.silu.sight import RICH, stand
from models.attention.silu.step import beside, block_bounds
from models.attention.silu.times import LIMIT

_LIMIT = tl.constexpr(LIMIT)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
# Up to this many borders, comparing with each costs less than finding each pair's bucket.
_FEW = tl.constexpr(6)
_RICH = tl.constexpr(RICH)
# How the pairs of a tile find their buckets: all lie in one; some borders lie between; each for itself,
# looked up near the diagonal.
ONE, BORDERS, PAIRS, NEAR = 0, 1, 2, 3
_ONE, _BORDERS, _PAIRS, _NEAR = (tl.constexpr(way) for way in (ONE, BORDERS, PAIRS, NEAR))

# Below, `times` are `kernel_arguments.TimeColumns`.
# `span` is the tuple (way, ends, base): how the pairs of a tile find their buckets, the buckets between which
# all lie, and what to add to all their biases: `time[low]` if the way adds but differences from there.


@triton.jit
def half_scores(
    products, half_scale, first_query, first_key, query_place, key_place, length, rule, bias, span,
    C: tl.constexpr,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile."""
    half = products * half_scale
    if bias.position is not None:
        placed = read_position(
            bias.position, first_query - first_key, query_place, key_place, length, rule, C.MASK
        )
        # What is the same all over the tile is added to the few different positions, not to all pairs.
        half += 0.5 * placed + 0.5 * span[2]
    elif bias.time is not None:
        half += 0.5 * span[2]
    if bias.time is not None:
        half = add_time(half, bias, span, first_query, first_key, query_place, key_place, length)
    return add_decay(half, query_place, key_place, length, bias, C.POWER)


@triton.jit
def add_decay(half, query_place, key_place, length, bias, POWER: tl.constexpr):
    """Add half the decay, where there is one."""
    if bias.amount is not None:
        exponent = decay_exponent(query_place, key_place, length, bias.times, POWER)
        half += 0.5 * tl.load(bias.amount) * tl.exp(-tl.load(bias.rate) * exponent)
    return half


@triton.jit
def read_position(position, apart, query_place, key_place, length, rule, MASK: tl.constexpr):
    """`position[p(i) - p(j)]`; where j is ahead, and past the sequence, any entry.

    `apart` is the place of the tile's first query less that of its first key.
    """
    if MASK == _RICH:
        distance = stand(tl.minimum(query_place, length - 1), rule) - stand(key_place, rule)
        return read(position, tl.maximum(distance, 0))
    most = length - 1
    if query_place.shape[1] == 1:
        return read_diagonals(position, apart, query_place.shape[0], key_place.shape[1], 1, most)
    else:
        return read_diagonals(position, apart, key_place.shape[0], query_place.shape[1], -1, most)


@triton.jit
def decay_exponent(query_place, key_place, length, times, POWER: tl.constexpr):
    """What the rate of a decay is multiplied by: `ln(1 + |d|)` or `|d|`."""
    difference = wide_difference(query_place, key_place, length, times).to(tl.float32)
    if POWER:
        return tl.log(1.0 + difference)
    else:
        return difference


@triton.jit
def find_span(time, program, first, OWN_QUERIES: tl.constexpr, OWN_SIZE: tl.constexpr, SIZE: tl.constexpr):
    """The span of a tile with a time table.

    One side's least and greatest second are given, of the queries if OWN_QUERIES, and those of the other are
    those of its blocks. The buckets may be more than need be by one next to them, and are all where 32-bit
    seconds cannot tell.
    """
    seconds, own_first = program.seconds, program.first
    other_least, other_most = block_bounds(seconds.bounds, seconds.num_blocks, first, program.length, SIZE)
    way, low, high = find_way(seconds.least, seconds.most, other_least, other_most, OWN_QUERIES, _FEW)
    if OWN_QUERIES:
        near = is_near(own_first, first, OWN_SIZE)
    else:
        near = is_near(first, own_first, SIZE)
    way = tl.where(near & (way > _ONE), _NEAR, way)
    return way, (low << 8) + high, tl.where(way >= _PAIRS, 0.0, tl.load(time + low))


@triton.jit
def find_way(
    own_least, own_most, other_least, other_most, OWN_QUERIES: tl.constexpr, FEW: tl.constexpr
):  # fmt: skip
    """The way of a tile, or of many, and the buckets between which all pairs lie, from the least and greatest
    second of both sides. FEW borders are the most that are compared with."""
    narrow = (own_least > -_LIMIT) & (own_most < _LIMIT) & (other_least > -_LIMIT) & (other_most < _LIMIT)
    least, most = differences(own_least, own_most, other_least, other_most, OWN_QUERIES)
    low, high = bucket_range(least, most)
    # Comparing with borders takes differences of one sign, and seconds plus a border that fit into 32 bits.
    few = (high - low <= FEW) & (least >= 0) & (most < _LIMIT // 2)
    way = tl.where(high == low, _ONE, tl.where(few, _BORDERS, _PAIRS))
    low = tl.where(narrow, low, 0)
    high = tl.where(narrow, high, _LAST_BUCKET)
    return tl.where(narrow, way, _PAIRS), low, high


@triton.jit
def differences(own_least, own_most, other_least, other_most, OWN_QUERIES: tl.constexpr):
    """The least and greatest difference of a query and a key, or bounds of them."""
    if OWN_QUERIES:
        return own_least - other_most, own_most - other_least
    else:
        return other_least - own_most, other_most - own_least


@triton.jit
def lowest_and_highest(ends):
    """The buckets between which all pairs of a tile lie.

    They travel from step to step as one number: Triton 3.6 forgets to carry one that is nothing but the end
    of an inner loop, and all steps see that of the first.
    """
    return ends >> 8, ends & 255


@triton.jit
def outlook(time, program, first, OWN_QUERIES: tl.constexpr, OWN_SIZE: tl.constexpr, SIZE: tl.constexpr):
    """The span of a tile, zeros without a time table. Asked one tile ahead, to hide its latency."""
    if time is not None:
        return find_span(time, program, first, OWN_QUERIES, OWN_SIZE, SIZE)
    else:
        zero = tl.full((), 0, tl.int32)
        return zero, zero, tl.full((), 0.0, tl.float32)


@triton.jit
def add_time(half, bias, span, first_query, first_key, query_place, key_place, length):
    """`half + (time[bucket] - base) / 2`."""
    time, times = bias.time, bias.times
    way, ends, base = span
    low, high = lowest_and_highest(ends)
    if way > _ONE:
        if way == _NEAR:
            half = _add_near(half, time, first_query, first_key, query_place, times)
        else:
            if way == _BORDERS:
                query, key = _read_seconds(first_query, first_key, query_place, key_place, times)
                half = _add_rises(half, time, times.borders, query, key, low, high, base)
            else:
                found = pair_buckets(query_place, key_place, length, times)
                half += 0.5 * read(time, beside(found, half))
    return half


@triton.jit
def pair_buckets(query_place, key_place, length, times):
    """The bucket of each pair, by 64-bit times: slow, where no others are at hand."""
    return find_bucket(wide_difference(query_place, key_place, length, times), times.wide_borders)


@triton.jit
def _add_near(half, time, first_query, first_key, query_place, times):
    if query_place.shape[1] == 1:
        return add_near(half, time, times.near, first_query, first_key, True)
    else:
        return add_near(half, time, times.near, first_key, first_query, False)


@triton.jit
def _add_rises(half, time, borders, query, key, low, high, below):
    """Add `(time[bucket] - below) / 2` for buckets from low to high, `below` the entry of low."""
    border, above = tl.load(borders + low + 1), tl.load(time + low + 1)
    # Border and entry of the next bucket are read while one is compared with.
    for bucket in tl.range(low + 2, high + 2, num_stages=1):
        reached = _reach(query, key, border)
        rise = 0.5 * (above - below)
        below = above
        border = tl.load(borders + bucket)
        above = tl.load(time + bucket)
        half = tl.where(reached, half + rise, half)
    return half


@triton.jit
def _read_seconds(first_query, first_key, query_place, key_place, times):
    """32-bit seconds of queries and keys, where the bounds of the tile allow them.

    Past the sequence stand any others: there is room behind the last, and whatever they are, they have a
    bucket.
    """
    if query_place.shape[1] == 1:
        query = read_column(times.query_seconds, first_query, query_place.shape[0])
        return query, read_row(times.key_seconds, first_key, key_place.shape[1])
    else:
        query = read_row(times.query_seconds, first_query, query_place.shape[1])
        return query, read_column(times.key_seconds, first_key, key_place.shape[0])


@triton.jit
def _reach(query, key, border):
    """Whether `query - key >= border`: one comparison a pair, and a subtraction a row."""
    if query.shape[1] == 1:
        return query - border >= key
    else:
        return query >= key + border


@triton.jit
def wide_difference(query_place, key_place, length, times):
    """Absolute differences in int64 seconds."""
    query = read(times.query_time, tl.minimum(query_place, length - 1))
    key = read(times.timestamp, tl.minimum(key_place, length - 1))
    return tl.abs(query - key)
