"""The step that all kernels share: from dot products of one tile to weights and their slopes.

Tiles are [queries, keys] or [keys, queries], as a kernel likes; places come as tensors that broadcast over
them, `[queries, 1]` and `[1, keys]` or the other way round.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.tiles import BLOCK
from models.gpu.interpreter import INTERPRETED

_BLOCK = tl.constexpr(BLOCK)
# Bits of a row's number that are constant in a thread, or may be.
_FAR_ROWS = tl.constexpr(8 + 16 + 32)
_NATIVE = tl.constexpr(not INTERPRETED)
# Integers of whose kinds the compiler must not make a kernel each: many differ from batch to batch.
VARYING = (
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
)


@triton.jit
def read_tile(tiles, num_tiles, row):
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
def settled(tile):
    """A sum of products, waited for before the next step begins.

    Otherwise the compiler leaves the last product of a step under way into the next one, and then, for want
    of proof that nobody touches its registers, lets every product wait for the one before.
    """
    if _NATIVE:
        # No instruction at all, but a use.
        return tl.inline_asm_elementwise("", "=r,0", [tile], dtype=tl.float32, is_pure=True, pack=1)
    else:
        return tile


@triton.jit
def beside(tile, other):
    """A tile of 4-byte numbers, computed where another is, in the layout of the matrix units if that is of
    scores; and once the other, or a row or column that is given in its place, is asked for."""
    if _NATIVE:
        # No instruction at all: nobody waits for the other, but the compiler keeps the order.
        return tl.inline_asm_elementwise("", "=r,0,r", [tile, other], dtype=tile.dtype, is_pure=True, pack=1)
    else:
        return tile


@triton.jit
def tanh(x, FAST: tl.constexpr):
    """FAST: one operation of the special-function unit, wrong by 2^-11 at most; otherwise two, exact."""
    if FAST:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))


@triton.jit
def activate(half, IDENTITY: tl.constexpr, FAST: tl.constexpr):
    """`silu(x)` for `half = x / 2`: `x / 2 * (1 + tanh(x / 2))`; or x itself."""
    if IDENTITY:
        return 2.0 * half
    elif FAST:
        return half * tanh(half, FAST) + half
    else:
        # Exact far below zero too, where 1 + tanh has no digits left.
        return 2.0 * half / (1.0 + tl.exp(-2.0 * half))


@triton.jit
def activate_with_slope(half, IDENTITY: tl.constexpr, FAST: tl.constexpr):
    """`silu(x)` and its derivative `s + silu(x) (1 - s)`, s the sigmoid, for `half = x / 2`; or x and 1."""
    if IDENTITY:
        return 2.0 * half, half * 0.0 + 1.0
    elif FAST:
        t = tanh(half, FAST)
        weight = half * t + half
        sigmoid = 0.5 * t + 0.5
        return weight, sigmoid + weight * (0.5 - 0.5 * t)
    else:
        sigmoid = 1.0 / (1.0 + tl.exp(-2.0 * half))
        weight = 2.0 * half * sigmoid
        return weight, sigmoid + weight * (1.0 - sigmoid)


@triton.jit
def block_bounds(bounds, num_blocks, first, length, SIZE: tl.constexpr):
    """Least and greatest second of the blocks that hold places `first` to `first + SIZE - 1`."""
    last = (length - 1) // _BLOCK
    block = tl.minimum(first // _BLOCK, last)
    least = tl.load(bounds + block)
    most = tl.load(bounds + num_blocks + block)
    for more in tl.static_range(1, SIZE // _BLOCK):
        block = tl.minimum(first // _BLOCK + more, last)
        least = tl.minimum(least, tl.load(bounds + block))
        most = tl.maximum(most, tl.load(bounds + num_blocks + block))
    return least, most
