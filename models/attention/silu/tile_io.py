"""Loads and stores of a program: its entry in the list of tiles, rows of tokens, bounds of time."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.mma_loads import load_at
from models.attention.silu.tiles import BLOCK

_BLOCK = tl.constexpr(BLOCK)
# Bits of a row's number that are constant in a thread, or may be.
_FAR_ROWS = tl.constexpr(8 + 16 + 32)
# Integers that kernels are not specialized for (`do_not_specialize`): many differ from batch to batch.
UNSPECIALIZED = (
    "num_tiles",
    "num_sequences",
    "tokens",
    "num_blocks",
    "window",
    "front",
    "context",
    "position_head",
    "time_head",
    "decay_head",
    "written_heads",
    "parts",
)


@triton.jit
def load_tile_entry(tiles, num_tiles, row):
    """First token (int64) and length of the sequence, number of the tile, blocks before the sequence, and the
    number of the sequence."""
    start = tl.load(tiles + row).to(tl.int64)
    length = tl.load(tiles + num_tiles + row)
    number = tl.load(tiles + 2 * num_tiles + row)
    blocks = tl.load(tiles + 3 * num_tiles + row)
    sequence = tl.load(tiles + 4 * num_tiles + row)
    return start, length, number, blocks, sequence


@triton.jit
def load_rows(
    source,
    stride,
    first,
    length,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    MASKED: tl.constexpr,
    skip=0,
    KNOWN: tl.constexpr = False,
):
    """[ROWS, WIDTH] of one head from row `first` on; zeros past column DIM and, if MASKED, outside of rows
    `skip` to `length`.

    `source` is the sequence's first row. Only the step to the tile can pass 2^31 elements. KNOWN says that
    the stride is a constant: then so are the steps between a thread's rows, and one place serves them all.
    """
    row = tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    places = source + tl.cast(first, tl.int64) * stride
    if KNOWN:
        own = (row & ~_FAR_ROWS)[:, None] * stride + column[None, :]
        places = (places + own) + (row & _FAR_ROWS)[:, None] * stride
    else:
        places = places + row[:, None] * stride + column[None, :]
    if MASKED:
        exists = (first + row < length) & (first + row >= skip)
        if DIM == WIDTH:
            return tl.load(places, mask=exists[:, None], other=0.0)
        else:
            return tl.load(places, mask=exists[:, None] & (column < DIM)[None, :], other=0.0)
    else:
        if DIM == WIDTH:
            return tl.load(places)
        else:
            return tl.load(places, mask=(column < DIM)[None, :], other=0.0)


@triton.jit
def store_rows(
    target, stride, first, length, tile, ROWS: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, skip=0
):
    """Write the rows, `skip` to `length`, and columns of a [ROWS, WIDTH] tile that exist."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    places = target + tl.cast(first, tl.int64) * stride + row[:, None] * stride + column[None, :]
    mask = ((first + row < length) & (first + row >= skip))[:, None] & (column < DIM)[None, :]
    tl.store(places, tile.to(target.dtype.element_ty), mask=mask)


@triton.jit
def block_bounds(bounds, num_blocks, first, length, SIZE: tl.constexpr):
    """Least and greatest second of the blocks that hold places `first` to `first + SIZE - 1`."""
    last = (length - 1) // _BLOCK
    block = tl.minimum(first // _BLOCK, last)
    least, most = _bounds_of(bounds, num_blocks, block)
    for more in tl.static_range(1, SIZE // _BLOCK):
        block = tl.minimum(first // _BLOCK + more, last)
        next_least, next_most = _bounds_of(bounds, num_blocks, block)
        least, most = tl.minimum(least, next_least), tl.maximum(most, next_most)
    return least, most


@triton.jit
def _bounds_of(bounds, num_blocks, block):
    """Of one block, or of many: what loads many the compiler does not look at, which for each ordinary one
    goes through the whole kernel again and again."""
    if block.type.is_block():
        return load_at(bounds, block), load_at(bounds + num_blocks, block)
    else:
        return tl.load(bounds + block), tl.load(bounds + num_blocks + block)
