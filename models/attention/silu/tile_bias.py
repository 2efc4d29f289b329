"""The bias of one tile, from positions and times, added to half the scores.

Where all pairs of a tile fall into one time bucket, the tile takes one number; of tiles with a few see
`simple_tiles`. Near the diagonal each pair's bucket comes from a table (`bucket_table`). Elsewhere it is
computed for each pair, from 32-bit seconds where these can tell.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803 (Triton has branches at compile time as statements)

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.bias import LAST_BUCKET
from models.attention.silu.bucket_table import (
    has_bucket_table,
    look_up_buckets,
    look_up_packed,
    pack,
    unpack,
    where_packed,
)
from models.attention.silu.buckets import bucket_range, find_bucket, find_narrow_bucket
from models.attention.silu.masking import RICH, logical_position
from models.attention.silu.mma_loads import load_at, load_column, load_diagonals, load_row
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_io import block_bounds
from models.attention.silu.times import LIMIT

_LIMIT = tl.constexpr(LIMIT)
_LAST_BUCKET = tl.constexpr(LAST_BUCKET)
_RICH = tl.constexpr(RICH)
# How the pairs of a tile find their buckets: all lie in one; some boundaries lie between; each for itself,
# looked up near the diagonal.
ONE, BOUNDARIES, PAIRS, NEAR = 0, 1, 2, 3
_ONE, _BOUNDARIES, _PAIRS, _NEAR = (tl.constexpr(mode) for mode in (ONE, BOUNDARIES, PAIRS, NEAR))

# Below, `times` are `kernel_arguments.TimeColumns`.
# `span` is the tuple (way, ends, base): how the pairs of a tile find their buckets, the buckets between which
# all lie, and what to add to all their biases: `time[low]` if the way adds but differences from there.


@triton.jit
def half_scores(
    products, half_scale, first_query, first_key, query_index, key_index, length, rule, bias, span,
    C: tl.constexpr, BY_RULE: tl.constexpr = False, packed=None,
):  # fmt: skip
    """`(qk_scale * products + bias) / 2` of one tile; BY_RULE as in `load_position`. Buckets are found but
    where they are given, packed, by `packed_buckets_of_tile`."""
    half = products * half_scale
    if bias.position is not None:
        placed = load_position(
            bias.position, first_query, first_key, query_index, key_index, length, rule, C.MASK, BY_RULE
        )
        # What is the same all over the tile is added to the few different positions, not to all pairs.
        half += 0.5 * placed + 0.5 * span[2]
    elif bias.time is not None:
        half += 0.5 * span[2]
    if bias.time is not None:
        half = add_time(
            half, bias, span, first_query, first_key, query_index, key_index, length, packed, C.COMPARED
        )
    return add_decay(half, query_index, key_index, length, bias, C.POWER)


@triton.jit
def add_decay(half, query_index, key_index, length, bias, POWER: tl.constexpr):
    """Add half the decay, where there is one."""
    if bias.amount is not None:
        exponent = decay_exponent(query_index, key_index, length, bias.times, POWER)
        half += 0.5 * tl.load(bias.amount) * tl.exp(-tl.load(bias.rate) * exponent)
    return half


@triton.jit
def load_position(
    position, first_query, first_key, query_index, key_index, length, rule, MASK: tl.constexpr,
    BY_RULE: tl.constexpr,
):  # fmt: skip
    """`position[p(i) - p(j)]`; where j is ahead, and past the sequence, any entry.

    BY_RULE: with a rich mask too, rows that are all alike, or straight, are loaded as such: faster, where
    there are registers for it.
    """
    apart, most = first_query - first_key, length - 1
    if MASK == _RICH:
        if BY_RULE:
            last = tl.minimum(first_query + query_index.shape[0], length) - 1
            # No `return` in a branch: this is called within loops.
            if first_query >= rule.history:  # candidates alone, all at one position
                distance = logical_position(first_query, rule) - logical_position(key_index, rule)
                row = load_at(position, tl.maximum(distance, 0))
                placed = tl.broadcast_to(row, (query_index.shape[0], key_index.shape[1]))
            elif (rule.context <= 1) & (last <= rule.history):  # places are positions
                placed = load_diagonals(position, apart, query_index.shape[0], key_index.shape[1], 1, most)
            else:
                placed = _load_distances(position, query_index, key_index, length, rule)
            return placed
        return _load_distances(position, query_index, key_index, length, rule)
    if query_index.shape[1] == 1:
        return load_diagonals(position, apart, query_index.shape[0], key_index.shape[1], 1, most)
    else:
        return load_diagonals(position, apart, key_index.shape[0], query_index.shape[1], -1, most)


@triton.jit
def _load_distances(position, query_index, key_index, length, rule):
    """Of any mask, pair by pair."""
    distance = logical_position(tl.minimum(query_index, length - 1), rule) - logical_position(key_index, rule)
    return load_at(position, tl.maximum(distance, 0))


@triton.jit
def decay_exponent(query_index, key_index, length, times, POWER: tl.constexpr):
    """What the rate of a decay is multiplied by: `ln(1 + |d|)` or `|d|`."""
    difference = wide_difference(query_index, key_index, length, times).to(tl.float32)
    if POWER:
        return tl.log(1.0 + difference)
    else:
        return difference


@triton.jit
def find_span(
    time, program, first, OWN_QUERIES: tl.constexpr, OWN_SIZE: tl.constexpr, SIZE: tl.constexpr,
    COMPARED: tl.constexpr,
):  # fmt: skip
    """The span of a tile with a time table; COMPARED as in `kernel_arguments`.

    One side's least and greatest second are given, of the queries if OWN_QUERIES, and those of the other are
    those of its blocks. The buckets may be more than need be by one next to them, and are all where 32-bit
    seconds cannot tell.
    """
    seconds, own_first = program.seconds, program.first
    other_least, other_most = block_bounds(seconds.bounds, seconds.num_blocks, first, program.length, SIZE)
    mode, low, high = classify_tiles(
        seconds.least, seconds.most, other_least, other_most, OWN_QUERIES, COMPARED
    )
    if OWN_QUERIES:
        near = has_bucket_table(own_first, first, OWN_SIZE)
    else:
        near = has_bucket_table(first, own_first, SIZE)
    mode = tl.where(near & (mode > _ONE), _NEAR, mode)
    return mode, (low << 8) + high, tl.where(mode >= _PAIRS, 0.0, tl.load(time + low))


@triton.jit
def classify_tiles(
    own_least, own_most, other_least, other_most, OWN_QUERIES: tl.constexpr, FEW: tl.constexpr
):  # fmt: skip
    """The way of a tile, or of many, and the buckets between which all pairs lie, from the least and greatest
    second of both sides. FEW boundaries are the most that are compared with."""
    narrow = (own_least > -_LIMIT) & (own_most < _LIMIT) & (other_least > -_LIMIT) & (other_most < _LIMIT)
    least, most = differences(own_least, own_most, other_least, other_most, OWN_QUERIES)
    low, high = bucket_range(least, most)
    # Comparing with boundaries takes differences of one sign, and seconds plus a boundary that fit into 32
    # bits.
    few = (high - low <= FEW) & (least >= 0) & (most < _LIMIT // 2)
    mode = tl.where(high == low, _ONE, tl.where(few, _BOUNDARIES, _PAIRS))
    low = tl.where(narrow, low, 0)
    high = tl.where(narrow, high, _LAST_BUCKET)
    return tl.where(narrow, mode, _PAIRS), low, high


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

    They are carried from iteration to iteration as one number: Triton 3.6 forgets to carry one that is
    nothing but the end of an inner loop, and all steps see that of the first.
    """
    return ends >> 8, ends & 255


@triton.jit
def span_of_tile(
    time, program, first, OWN_QUERIES: tl.constexpr, OWN_SIZE: tl.constexpr, SIZE: tl.constexpr,
    COMPARED: tl.constexpr,
):  # fmt: skip
    """The span of a tile, zeros without a time table. Requested one tile ahead, to hide its latency."""
    if time is not None:
        return find_span(time, program, first, OWN_QUERIES, OWN_SIZE, SIZE, COMPARED)
    else:
        zero = tl.full((), 0, tl.int32)
        return zero, zero, tl.full((), 0.0, tl.float32)


@triton.jit
def add_time(
    half, bias, span, first_query, first_key, query_index, key_index, length, packed, COMPARED: tl.constexpr
):
    """`half + (time[bucket] - base) / 2`."""
    mode, ends, base = span
    if COMPARED > 0 and mode == _BOUNDARIES:
        low, high = lowest_and_highest(ends)
        seconds = load_seconds(first_query, first_key, query_index, key_index, bias.times)
        above = tl.load(bias.time + low + 1)
        half = add_reached_rises(half, bias.time, bias.times, seconds, low, high, base, above)
    elif mode > _ONE:
        if packed is not None:
            found = unpack(packed, half)
        else:
            found = buckets_of_tile(
                half, mode, ends, first_query, first_key, query_index, key_index, length, bias.times
            )
        half += 0.5 * load_at(bias.time, found)
    return half


@triton.jit
def add_reached_rises(half, time, times, seconds, low, high, below, above):
    """Add `(time[bucket] - below) / 2` for buckets from low to high, of pairs in any order, `below` the entry
    of low and `above` that of the next.

    By comparing seconds: the compiler has one predicate for all pairs.
    """
    boundary = tl.load(times.boundaries + low + 1)
    # Boundary and entry of the next bucket are read while one is compared with.
    for bucket in tl.range(low + 2, high + 2, num_stages=1):
        rise = 0.5 * (above - below)
        reached = reach(seconds[0], seconds[1], boundary)
        below = above
        above = tl.load(time + tl.minimum(bucket, _LAST_BUCKET))
        boundary = tl.load(times.boundaries + tl.minimum(bucket, _LAST_BUCKET))
        half = tl.where(reached, half + rise, half)
    return half


@triton.jit
def packed_buckets_of_tile(scores, span, first_query, first_key, query_index, key_index, length, times):
    """The buckets of a tile [queries, keys], packed (`bucket_table`), zeros where all lie in one: for more
    than one use of them."""
    mode, ends, _ = span
    where = where_packed(scores)
    packed = tl.zeros_like(where).to(tl.int32)
    if mode > _ONE:
        if mode == _NEAR:
            packed = tie(
                look_up_packed(
                    times.bucket_table, first_query, first_key, scores.shape[0], scores.shape[1], True
                ),
                where,
            )
        else:
            found = buckets_of_pairs(
                scores, ends, first_query, first_key, query_index, key_index, length, times
            )
            packed = tie(pack(found), where)
    return packed


@triton.jit
def buckets_of_tile(scores, mode, ends, first_query, first_key, query_index, key_index, length, times):
    """The bucket of each pair of a tile of several, found once its scores, or what else is given, are asked
    for; those of pairs past the sequence are any."""
    if mode == _NEAR:
        if query_index.shape[1] == 1:
            found = look_up_buckets(scores, times.bucket_table, first_query, first_key, True)
        else:
            found = look_up_buckets(scores, times.bucket_table, first_key, first_query, False)
    else:
        found = buckets_of_pairs(scores, ends, first_query, first_key, query_index, key_index, length, times)
    return found


@triton.jit
def buckets_of_pairs(scores, ends, first_query, first_key, query_index, key_index, length, times):
    """The same of a tile away from the diagonal, pair by pair."""
    # Tied to where scores are in each branch: the compiler moves no such wish into a branch.
    if is_far(ends):
        difference = wide_difference(query_index, key_index, length, times)
        found = tie(find_bucket(difference, times.wide_boundaries), scores)
    else:
        query, key = load_seconds(first_query, first_key, query_index, key_index, times)
        found = tie(find_narrow_bucket(tl.abs(query - key), times.boundaries), scores)
    return found


@triton.jit
def is_far(ends):
    """Whether some pairs of a tile may lie farther apart than 32-bit seconds can tell, given its ends."""
    _, high = lowest_and_highest(ends)
    return high == _LAST_BUCKET


@triton.jit
def load_seconds(first_query, first_key, query_index, key_index, times):
    """32-bit seconds of queries and keys, where the bounds of the tile allow them.

    Past the sequence stand any others: there is room behind the last, and whatever they are, they have a
    bucket.
    """
    if query_index.shape[1] == 1:
        query = load_column(times.query_seconds, first_query, query_index.shape[0])
        return query, load_row(times.key_seconds, first_key, key_index.shape[1])
    else:
        query = load_row(times.query_seconds, first_query, query_index.shape[1])
        return query, load_column(times.key_seconds, first_key, key_index.shape[0])


@triton.jit
def reach(query, key, boundary):
    """Whether `query - key >= boundary`: one comparison a pair, and a subtraction a row."""
    if query.shape[1] == 1:
        return query - boundary >= key
    else:
        return query >= key + boundary


@triton.jit
def wide_difference(query_index, key_index, length, times):
    """Absolute differences in int64 seconds."""
    query = load_at(times.query_time, tl.minimum(query_index, length - 1))
    key = load_at(times.timestamp, tl.minimum(key_index, length - 1))
    return tl.abs(query - key)
