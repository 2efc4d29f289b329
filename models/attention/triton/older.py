"""How many tokens of a sequence are so and so much older than a query: where along its row buckets change."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.attention.bias import LAST_BUCKET
from models.attention.triton.start import start
from models.attention.triton.step import read_tile
from models.attention.triton.tiles import BLOCK
from models.attention.triton.tuning import Shape

BORDERS = LAST_BUCKET
"""Borders between buckets, 1 to 128: border b is the least difference of bucket b."""
_AT_ONCE = 16
_BLOCKS_AT_ONCE = 64
_SHAPE = Shape(BLOCK, BLOCK, warps=4, stages=1)


def count_older(
    query_time: Tensor, timestamp: Tensor, wide_borders: Tensor, in_order: Tensor, blocks: Tensor
) -> Tensor:
    """[tokens, 128] int32: of each query, how many tokens of its sequence happened at least the least
    difference of bucket 1, 2, ... before its time; -1 where the sequence is not in order.

    512 bytes a token, 128 searches each.

    Args:
        query_time: [tokens] int64
        timestamp: [tokens] int64
        wide_borders: [129] int64, the least difference of each bucket.
        in_order: [blocks] int32, 1 where `timestamp` does not fall in a block, nor from the block before to
            it, and no query of the block asks before its own token; else 0.
        blocks: a list of 64-token tiles, see `tiles`.
    """
    tokens, count = timestamp.shape[0], blocks.shape[1]
    older = torch.empty((tokens, BORDERS), dtype=torch.int32, device=timestamp.device)
    if count:
        start(_count_older, (count, 1), _SHAPE, {
            "query_time": query_time, "timestamp": timestamp, "borders": wide_borders, "in_order": in_order,
            "older": older, "blocks": blocks, "num_blocks": count, "BLOCK": BLOCK, "BORDERS": BORDERS,
            "AT_ONCE": _AT_ONCE, "BLOCKS_AT_ONCE": _BLOCKS_AT_ONCE,
        })  # fmt: skip
    return older


@triton.jit(do_not_specialize=("num_blocks",))
def _count_older(
    query_time, timestamp, borders, in_order, older, blocks, num_blocks,
    BLOCK: tl.constexpr, BORDERS: tl.constexpr, AT_ONCE: tl.constexpr, BLOCKS_AT_ONCE: tl.constexpr,
):  # fmt: skip
    start, length, number, before, _ = read_tile(blocks, num_blocks, tl.program_id(0))
    if length == 0:
        return
    ordered = _whole_sequence(in_order + before, (length + BLOCK - 1) // BLOCK, BLOCKS_AT_ONCE)
    place = number * BLOCK + tl.arange(0, BLOCK)
    time = tl.load(query_time + start + tl.minimum(place, length - 1))[:, None]
    timestamp += start
    largest = tl.max(time) - tl.load(timestamp)
    for first in tl.range(0, BORDERS, AT_ONCE):
        column = first + tl.arange(0, AT_ONCE)[None, :]
        count = tl.zeros((BLOCK, AT_ONCE), tl.int32)
        # Most sequences do not last as long as the farther borders.
        if tl.load(borders + 1 + first) <= largest:
            count = _count_until(timestamp, length, time - tl.load(borders + 1 + column))
        count = tl.where(ordered > 0, count, -1)
        tl.store(older + (start + place[:, None]) * BORDERS + column, count, mask=place[:, None] < length)


@triton.jit
def _whole_sequence(in_order, count, BLOCKS_AT_ONCE: tl.constexpr):
    """Whether all blocks of a sequence are in order, 1 or 0."""
    ordered = tl.full((), 1, tl.int32)
    for first in tl.range(0, count, BLOCKS_AT_ONCE):
        block = first + tl.arange(0, BLOCKS_AT_ONCE)
        ordered = tl.minimum(ordered, tl.min(tl.load(in_order + block, mask=block < count, other=1)))
    return ordered


@triton.jit
def _count_until(timestamp, length, latest):
    """How many of a sequence's times, in order, are `latest` at most."""
    count = tl.zeros(latest.shape, tl.int32)
    step = tl.full((), 1, tl.int32)
    while 2 * step <= length:
        step *= 2
    while step > 0:
        # Are so many more?
        more = count + step
        last = tl.load(timestamp + tl.minimum(more, length) - 1)
        count = tl.where((more <= length) & (last <= latest), more, count)
        step = step // 2
    return count
