"""Where along a row of scores time buckets change, in sequences whose times are in order.

There the keys beyond a bucket boundary are the first ones of a query, and the queries beyond it are the last
ones of a key. How many they are is counted once a batch, by binary search; then no tile loads times again:
whether a pair lies beyond a boundary is one saturating addition, and adding what that is worth one
multiply-add. Comparisons of whole seconds would be two instructions as well, but the compiler serializes them
on one predicate register.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, SIM108 (Triton has branches at compile time as statements)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.attention.bias import LAST_BUCKET
from models.attention.silu.mma_loads import FAR_COLUMNS, load_column, saturate
from models.attention.silu.tile_io import load_tile_entry
from models.attention.silu.tiles import BLOCK, LARGEST_TILE
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape

BOUNDARIES = LAST_BUCKET
"""Boundaries between buckets, 1 to 128: boundary b is the least difference of bucket b."""
_AT_ONCE = 16
_BLOCKS_AT_ONCE = 64
_SHAPE = TileShape(BLOCK, BLOCK, warps=4, stages=1)
_BOUNDARIES = tl.constexpr(BOUNDARIES)
_FAR_COLUMNS = tl.constexpr(FAR_COLUMNS)


def count_keys_beyond(
    query_time: Tensor, timestamp: Tensor, blocks: Tensor, wide_boundaries: Tensor, in_order: Tensor
) -> Tensor:
    """[tokens + 128, 128] float32: of each query, how many tokens of its sequence happened at least the least
    difference of bucket 1, 2, ... before its time, the first ones; -1 where the sequence is not in order.

    512 bytes a token, 128 searches each. Rows past the last token are 0.

    Args:
        query_time: [tokens] int64
        timestamp: [tokens] int64
        blocks: a list of 64-token tiles, see `tiles`.
        wide_borders: [129] int64, the least difference of each bucket.
        in_order: [blocks] int32, see `times.Times`.
    """
    return _count(query_time, timestamp, blocks, wide_boundaries, in_order, True)


def count_queries_before(
    query_time: Tensor, timestamp: Tensor, blocks: Tensor, wide_boundaries: Tensor, in_order: Tensor
) -> Tensor:
    """The same the other way round: of each key, how many tokens of its sequence ask sooner than the least
    difference of bucket 1, 2, ... after it, the first ones; all others ask at least that much later."""
    return _count(timestamp, query_time, blocks, wide_boundaries, in_order, False)


def _count(
    own: Tensor, others: Tensor, blocks: Tensor, wide_boundaries: Tensor, in_order: Tensor, keys_beyond: bool
) -> Tensor:
    tokens, count = own.shape[0], blocks.shape[1]
    # Tiles are read whole, though the last one may end past the last token.
    counts = torch.empty((tokens + LARGEST_TILE, BOUNDARIES), dtype=torch.float32, device=own.device)
    counts[tokens:] = 0
    if count:
        launch(_boundary_count_kernel, (count, 1), _SHAPE, {
            "own": own, "others": others, "boundaries": wide_boundaries, "in_order": in_order, "counts":
            counts, "blocks": blocks, "num_blocks": count, "BLOCK": BLOCK, "BOUNDARIES": BOUNDARIES,
            "AT_ONCE": _AT_ONCE, "BLOCKS_AT_ONCE": _BLOCKS_AT_ONCE, "OF_QUERIES": keys_beyond,
        })  # fmt: skip
    return counts


@triton.jit(do_not_specialize=("num_blocks",))
def _boundary_count_kernel(
    own, others, boundaries, in_order, counts, blocks, num_blocks,
    BLOCK: tl.constexpr, BOUNDARIES: tl.constexpr, AT_ONCE: tl.constexpr, BLOCKS_AT_ONCE: tl.constexpr,
    OF_QUERIES: tl.constexpr,
):  # fmt: skip
    start, length, number, before, _ = load_tile_entry(blocks, num_blocks, tl.program_id(0))
    if length == 0:
        return
    ordered = _whole_sequence(
        in_order + before, (length + BLOCK - 1) // BLOCK, BLOCKS_AT_ONCE, 0 if OF_QUERIES else 1
    )
    place = number * BLOCK + tl.arange(0, BLOCK)
    time = tl.load(own + start + tl.minimum(place, length - 1))[:, None]
    others += start
    if OF_QUERIES:
        largest = tl.max(time) - tl.load(others)
    else:
        largest = tl.load(others + length - 1) - tl.min(time)
    for first in tl.range(0, BOUNDARIES, AT_ONCE):
        column = first + tl.arange(0, AT_ONCE)[None, :]
        found = tl.zeros((BLOCK, AT_ONCE), tl.int32)
        if not OF_QUERIES:
            found += length
        # Most sequences do not last as long as the farther boundaries.
        if tl.load(boundaries + 1 + first) <= largest:
            boundary = tl.load(boundaries + 1 + column)
            latest = time - boundary if OF_QUERIES else time + (boundary - 1)
            found = _count_until(others, length, latest)
        found = tl.where(ordered > 0, found, -1).to(tl.float32)
        tl.store(counts + (start + place[:, None]) * BOUNDARIES + column, found, mask=place[:, None] < length)


@triton.jit
def _whole_sequence(in_order, count, BLOCKS_AT_ONCE: tl.constexpr, BIT: tl.constexpr):
    """Whether a bit of all blocks of a sequence is set, 1 or 0."""
    ordered = tl.full((), 1, tl.int32)
    for first in tl.range(0, count, BLOCKS_AT_ONCE):
        block = first + tl.arange(0, BLOCKS_AT_ONCE)
        bits = tl.load(in_order + block, mask=block < count, other=3)
        ordered = tl.minimum(ordered, tl.min((bits >> BIT) & 1))
    return ordered


@triton.jit
def _count_until(times, length, latest):
    """How many of a sequence's times, in order, are `latest` at most."""
    count = tl.zeros(latest.shape, tl.int32)
    step = tl.full((), 1, tl.int32)
    while 2 * step <= length:
        step *= 2
    while step > 0:
        # Are so many more?
        more = count + step
        last = tl.load(times + tl.minimum(more, length) - 1)
        count = tl.where((more <= length) & (last <= latest), more, count)
        step = step // 2
    return count


# Below, `counts` are those of a sequence: of `count_keys_beyond` where a tile's rows are queries, of
# `count_queries_before` where they are keys.


@triton.jit
def counts_of(counts, start):
    """Those of a sequence, given its first token, and whether its times are in order: otherwise there are
    none."""
    counts += start * _BOUNDARIES
    return counts, tl.load(counts) >= 0


@triton.jit
def load_counts(counts, first_row, boundary, ROWS: tl.constexpr):
    """[ROWS, 1] the counts of a boundary; of boundary 129, any."""
    return load_column(counts + (boundary - 1), first_row, ROWS, _BOUNDARIES)


@triton.jit
def beyond(counts, first_column, COLUMNS: tl.constexpr, QUERY_ROWS: tl.constexpr):
    """[rows, COLUMNS] 1 where a pair lies beyond a boundary, else 0, given `load_counts`."""
    column = tl.arange(0, COLUMNS)[None, :]
    # What differs between threads goes into one number a row; the rest is part of an instruction.
    lane, constant = (column & ~_FAR_COLUMNS).to(tl.float32), (column & _FAR_COLUMNS).to(tl.float32)
    left = (counts - first_column) - lane
    if QUERY_ROWS:
        return saturate(left, -constant)
    else:
        return saturate(-left, constant + 1.0)
