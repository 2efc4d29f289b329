"""A table of the time buckets of pairs near the diagonal, made once a batch for all heads and layers.

Tiles near the diagonal span many buckets. A token's row of the table holds its buckets with the 3 nearest
blocks of 64
tokens: of a query with keys up to its own block, of a key with queries from its own block on. That is 384
bytes a token, linear in length.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.attention.silu.buckets import find_bucket
from models.attention.silu.mma_loads import FAR_ROW, load_vector
from models.attention.silu.scheduling import tie
from models.attention.silu.tile_io import load_tile_entry
from models.attention.silu.tiles import BLOCK, LARGEST_TILE
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape

NEAR = 3
"""Blocks whose pairs with a block are held."""
NUMBERS = BLOCK // 4
"""int32 numbers that hold a token's buckets with one block, four each."""
_BLOCK, _NEAR, _NUMBERS = tl.constexpr(BLOCK), tl.constexpr(NEAR), tl.constexpr(NUMBERS)
# Numbers of a token as a query, or as a key, and of both.
_ROLE, _ROW = tl.constexpr(NEAR * NUMBERS), tl.constexpr(2 * NEAR * NUMBERS)
_FAR_ROW = tl.constexpr(FAR_ROW)
_SHAPE = TileShape(BLOCK, BLOCK, warps=4, stages=1)

# A block of 64 buckets is in the order in which a thread of the matrix units holds columns: of column
# 16 part + 8 half + 2 pair + side, the bucket is byte 2 half + side of number 4 pair + part.


def make_bucket_table(
    query_time: Tensor, timestamp: Tensor, blocks: Tensor, wide_boundaries: Tensor
) -> Tensor:
    """[tokens + 128, 2, 48] int32, of each token as a query and as a key, four buckets a number.

    The third block of either is that of the pairs with the token's own block, those before are of the blocks
    two away and one away. Where there is no such block, and past the last token, stand zeros.

    Args:
        query_time, timestamp: [tokens] int64, contiguous.
        blocks: list of 64-token tiles.
        wide_borders: [129] int64, see `times.Times`.
    """
    # Tiles are read whole, though the last one may end past the last token.
    rows = timestamp.shape[0] + LARGEST_TILE
    bucket_table = torch.zeros((rows, 2, NEAR * NUMBERS), dtype=torch.int32, device=timestamp.device)
    count = blocks.shape[1]
    if count:
        launch(_bucket_table_kernel, (count, NEAR), _SHAPE, {
            "query_time": query_time, "timestamp": timestamp, "bucket_table": bucket_table, "blocks": blocks,
            "wide_boundaries": wide_boundaries, "num_blocks": count,
        })  # fmt: skip
    return bucket_table


@triton.jit(do_not_specialize=("num_blocks",))
def _bucket_table_kernel(query_time, timestamp, bucket_table, blocks, wide_boundaries, num_blocks):
    """Pairs of a block of queries and one of keys."""
    first, length, number, _, _ = load_tile_entry(blocks, num_blocks, tl.program_id(0))
    back = tl.program_id(1)
    if (length == 0) | (back > number):
        return
    query = number * _BLOCK + tl.arange(0, _BLOCK)
    key = query - back * _BLOCK
    asked = tl.load(query_time + first + tl.minimum(query, length - 1))
    happened = tl.load(timestamp + first + tl.minimum(key, length - 1))
    found = find_bucket(tl.abs(asked[:, None] - happened[None, :]), wide_boundaries)
    bucket_table = bucket_table_rows(bucket_table, first) + (_NEAR - 1 - back) * _NUMBERS
    _store(bucket_table, query, length, found, True)
    _store(bucket_table + _ROLE, key, length, found, False)


@triton.jit
def _store(bucket_table, row, length, found, BY_QUERY: tl.constexpr):
    """Write the buckets `[queries, keys]` of those queries, or keys, that exist, with one block."""
    half = tl.arange(0, 2)[:, None, None]
    side = tl.arange(0, 2)[None, None, :]
    shift = 16 * half + 8 * side
    if BY_QUERY:
        parts = tl.reshape(found, (_BLOCK, _BLOCK // 16, 2, 4, 2)) << shift[None, None, :, :, :]
        numbers = tl.permute(tl.sum(tl.sum(parts, axis=4), axis=2), (0, 2, 1))
    else:
        # Turned around before, the compiler would find all buckets twice.
        parts = tl.reshape(found, (_BLOCK // 16, 2, 4, 2, _BLOCK)) << shift[None, :, :, :, None]
        numbers = tl.permute(tl.sum(tl.sum(parts, axis=3), axis=1), (2, 1, 0))
    place = row[:, None] * _ROW + tl.arange(0, _NUMBERS)[None, :]
    tl.store(bucket_table + place, tl.reshape(numbers, (_BLOCK, _NUMBERS)), mask=(row < length)[:, None])


@triton.jit
def bucket_table_rows(bucket_table, start):
    """The rows of a sequence, given its first token."""
    return bucket_table + start * _ROW


@triton.jit
def has_bucket_table(first_query, first_key, QUERIES: tl.constexpr):
    """Whether all buckets of a tile are held, but for keys of blocks ahead of the query's: in their place
    stand any others. No query sees these: contexts lie within the first block."""
    return (first_query + (QUERIES - 1)) // _BLOCK - first_key // _BLOCK < _NEAR


# Of a tile [rows, columns], `packed` buckets are int32 [rows, columns // 16, 1, 4, 1], four in each, all of
# them held by the thread of the matrix units that holds those four scores.


@triton.jit
def look_up_packed(
    bucket_table, first_row, first_column, ROWS: tl.constexpr, COLUMNS: tl.constexpr, QUERY_ROWS: tl.constexpr
):
    """The packed buckets of a tile, given the rows of a sequence; a tile's rows are queries or keys. No tile
    has more than 64 columns."""
    SIGN: tl.constexpr = -1 if QUERY_ROWS else 1
    PARTS: tl.constexpr = COLUMNS // 16
    tl.static_assert(COLUMNS <= _BLOCK)
    row = tl.arange(0, ROWS)[:, None, None, None, None]
    part = tl.arange(0, PARTS)[None, :, None, None, None]
    pair = tl.arange(0, 4)[None, None, None, :, None]
    own = first_row + (row & ~_FAR_ROW)
    other_block = first_column // _BLOCK
    block = _NEAR - 1 + SIGN * (own // _BLOCK - other_block)
    first_part = (first_column - other_block * _BLOCK) // 16
    place = own * _ROW + (0 if QUERY_ROWS else _ROLE) + block * _NUMBERS + first_part + 4 * pair
    numbers = load_vector(bucket_table, place, (row & _FAR_ROW) * _ROW, PARTS)
    number = numbers[0]
    for other in tl.static_range(1, PARTS):
        number = tl.where(part == other, numbers[other], number)
    return number


@triton.jit
def _shift():
    """[1, 1, 2, 1, 2] of each of the four."""
    side_half = tl.arange(0, 2)[None, None, :, None, None]
    return 16 * side_half + 8 * tl.arange(0, 2)[None, None, None, None, :]


@triton.jit
def _apart(tile):
    """[rows, columns // 16, 2, 4, 2]: what is packed together lies along axes 2 and 4."""
    return tl.reshape(tile, (tile.shape[0], tile.shape[1] // 16, 2, 4, 2))


@triton.jit
def _together(tile):
    return tl.sum(tl.sum(_apart(tile), axis=4, keep_dims=True), axis=2, keep_dims=True)


@triton.jit
def unpack(packed, scores):
    """The buckets of a tile, where its scores are."""
    # In the order of the scores, so that no number moves to another thread.
    return tl.reshape(tie((packed >> _shift()) & 255, _apart(scores)), scores.shape)


@triton.jit
def pack(found):
    """Buckets of a tile, packed."""
    apart = _apart(found)
    return tl.sum(tl.sum(apart << _shift(), axis=4, keep_dims=True), axis=2, keep_dims=True)


@triton.jit
def where_packed(scores):
    """float32, as packed buckets of these scores: to `tie` with, since no instruction comes of it then."""
    return _together(scores)


@triton.jit
def look_up_buckets(scores, bucket_table, first_row, first_column, QUERY_ROWS: tl.constexpr):
    """The buckets of a tile, where its scores are."""
    packed = look_up_packed(
        bucket_table, first_row, first_column, scores.shape[0], scores.shape[1], QUERY_ROWS
    )
    return unpack(packed, scores)
