"""Sums of a tile along its diagonals, in the register layout of the matrix units (MMA).

A thread holds rows 8 apart and pairs of columns 8 apart, so the 8 x 8 blocks of one block diagonal lie in the
same
registers: they are added without any exchange between threads, 9 sums instead of 16 blocks for 16 x 64
numbers. Only then are the rows of a block rotated, by warp shuffles, until each column is one diagonal, and
added up, each thread keeping another part of the sums. In any other layout this is right too, but slower.

A tile of [queries, keys] is seen as stripes of 16 rows; `[stripes, 8, 8]` is one block of each stripe.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806, RUF005 (Triton's tuples can be added, not unpacked into one)

from __future__ import annotations

import triton
import triton.language as tl

STRIPE = 16
"""Rows of a stripe: two blocks."""
_STRIPE = tl.constexpr(STRIPE)


@triton.jit
def block_diagonals(tile):
    """keys // 8 + 1 sums `[stripes, 8, 8]` of blocks: number k of those that lie `k - 1` blocks before a
    stripe's first block, so that `i - j = 8 (1 - k) + row - column` from the first of both on."""
    BLOCKS: tl.constexpr = tile.shape[1] // 8
    STRIPES: tl.constexpr = tile.shape[0] // _STRIPE
    apart = tl.permute(tl.reshape(tile, (STRIPES, 2, 8, BLOCKS, 8)), (0, 2, 4, 3, 1))
    upper, lower = tl.split(tl.reshape(apart, (STRIPES * 64, BLOCKS, 2)))
    above = one_by_one(upper, BLOCKS)
    below = one_by_one(lower, BLOCKS)
    sums = (tl.reshape(below[0], (STRIPES, 8, 8)),)
    for number in tl.static_range(1, BLOCKS):
        sums = sums + (tl.reshape(above[number - 1] + below[number], (STRIPES, 8, 8)),)
    return sums + (tl.reshape(above[BLOCKS - 1], (STRIPES, 8, 8)),)


@triton.jit
def one_by_one(tensor, COUNT: tl.constexpr):
    """The COUNT tensors `[size]`, a power of two of them, that are the columns of `[size, COUNT]`."""
    SIZE: tl.constexpr = tensor.shape[0]
    if COUNT == 1:
        return (tl.reshape(tensor, (SIZE,)),)
    else:
        first, second = tl.split(tl.permute(tl.reshape(tensor, (SIZE, 2, COUNT // 2)), (0, 2, 1)))
        return one_by_one(first, COUNT // 2) + one_by_one(second, COUNT // 2)


@triton.jit
def diagonals(blocks):
    """What `block_diagonals` gave, turned: as many + 1 tensors `[stripes, 8, 8]`, to be added up along rows:
    `i - j = 8 (1 - number) + column + 1`."""
    COUNT: tl.constexpr = len(blocks)
    row = tl.arange(0, 8)[None, :, None]
    column = tl.arange(0, 8)[None, None, :]
    # Column s of a turned row r was column (r - 1 - s) mod 8: r - (r - 1 - s) is s + 1, and s - 7 past 8.
    near = column < row
    turned = (_turn(blocks[0]),)
    sums = (tl.where(near, turned[0], 0.0),)
    for number in tl.static_range(1, COUNT):
        turned = turned + (_turn(blocks[number]),)
        sums = sums + (tl.where(near, turned[number], turned[number - 1]),)
    return sums + (tl.where(near, 0.0, turned[COUNT - 1]),)


@triton.jit
def _turn(block):
    """`[w, r, s] = block[w, r, (r - 1 - s) % 8]`, one exchange between threads for a number of each."""
    STRIPES: tl.constexpr = block.shape[0]
    even, odd = tl.split(tl.reshape(block, (STRIPES, 8, 4, 2)))
    row = tl.arange(0, 8)[None, :, None]
    pair = tl.zeros((STRIPES, 8, 4), tl.int32) + tl.arange(0, 4)[None, None, :]
    is_odd = (row & 1) == 1
    first = tl.gather(tl.where(is_odd, even, odd), (((row - 1) >> 1) - pair) & 3, axis=2)
    second = tl.gather(tl.where(is_odd, odd, even), (((row - 2) >> 1) - pair) & 3, axis=2)
    return tl.reshape(tl.join(first, second), (STRIPES, 8, 8))


@triton.jit
def add_rows(parts):
    """`[stripes, 8, 8]`: row r is the sum over all rows of part `r * len(parts) // 8`, of 2, 4 or 8 parts."""
    return _add_rows(_add_rows(_add_rows(parts, 4), 2), 1)[0]


@triton.jit
def _add_rows(parts, APART: tl.constexpr):
    """Add rows APART from each other: where the first of two had them, those of the first half of the parts,
    where the second had them, those of the second half."""
    HALF: tl.constexpr = len(parts) // 2
    if HALF == 0:
        return (_add_halves(parts[0], APART),)
    else:
        sums = ()
        for number in tl.static_range(HALF):
            sums = sums + (_exchange(parts[number], parts[number + HALF], APART),)  # type: ignore[assignment]
        return sums


@triton.jit
def _add_halves(part, APART: tl.constexpr):
    STRIPES: tl.constexpr = part.shape[0]
    pairs = tl.reshape(part, (STRIPES * (4 // APART), 2, APART * 8))
    both = tl.zeros_like(pairs) + tl.sum(pairs, axis=1, keep_dims=True)
    return tl.reshape(both, (STRIPES, 8, 8))


@triton.jit
def _exchange(first, second, APART: tl.constexpr):
    """One exchange of a number where two sums would take two."""
    STRIPES: tl.constexpr = first.shape[0]
    first = tl.reshape(first, (STRIPES * (4 // APART), 2, APART * 8))
    second = tl.reshape(second, (STRIPES * (4 // APART), 2, APART * 8))
    is_first = tl.arange(0, 2)[None, :, None] == 0
    kept = tl.where(is_first, first, second)
    given = tl.where(is_first, second, first).to(tl.int32, bitcast=True)
    # What the other of the two gave: all bits of both, without one's own.
    taken = given ^ tl.xor_sum(given, axis=1, keep_dims=True)
    return tl.reshape(kept + taken.to(tl.float32, bitcast=True), (STRIPES, 8, 8))
