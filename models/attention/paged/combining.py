"""The parts of a result that programs with a part of the keys found, put together in one order."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=("part_size", "numbers", "new_heads"))
def combine_kernel(
    parted, stats, out, part_size, numbers, new_heads, parts, DIM: tl.constexpr, BLOCK: tl.constexpr,
    SOFTMAX: tl.constexpr,
):  # fmt: skip
    """BLOCK numbers of `out`: sums over parts, or for softmax their average, by what each part saw."""
    place = (tl.program_id(0) + tl.program_id(1)) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    total = tl.zeros((BLOCK,), tl.float32)
    if SOFTMAX:
        row = place // DIM
        size = new_heads.to(tl.int64)
        highest = tl.full((BLOCK,), float("-inf"), tl.float32)
        for part in range(parts):
            highest = tl.maximum(highest, tl.load(stats + 2 * part * size + row, mask=inside, other=0.0))
        norm = tl.zeros((BLOCK,), tl.float32)
        for part in range(parts):
            peak = tl.load(stats + 2 * part * size + row, mask=inside, other=0.0)
            share = tl.exp2(peak - highest)
            norm += share * tl.load(stats + (2 * part + 1) * size + row, mask=inside, other=0.0)
            total += share * tl.load(parted + part * part_size.to(tl.int64) + place, mask=inside, other=0.0)
        total = total / tl.maximum(norm, 1e-37)
    else:
        for part in range(parts):
            total += tl.load(parted + part * part_size.to(tl.int64) + place, mask=inside, other=0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
