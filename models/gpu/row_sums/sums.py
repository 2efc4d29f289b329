"""Sums of rows that are gathered, a program a group."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def group_sums_kernel(
    gradients, order, starts, rows, number, sums,
    WIDTH: tl.constexpr, DIM: tl.constexpr, AT_ONCE: tl.constexpr, FILLED: tl.constexpr,
    BEFORE: tl.constexpr,
):  # fmt: skip
    """A program a group, AT_ONCE of its gradients at a time; without `order` these lie group by group.

    Zeros for row 0, where there are rows, and, if FILLED, after the last group. With BEFORE, sums go to the
    rows less that many, and none of row 0.
    """
    group = tl.program_id(0)
    dim = tl.arange(0, DIM)
    inside = dim < WIDTH
    total = tl.zeros((DIM,), tl.float32)
    there = group < tl.load(number)
    counts = there
    target = tl.cast(group, tl.int64)
    if rows is not None:
        row = tl.load(rows + group, mask=there, other=0)
        counts = there & (row > 0)
        if BEFORE is not None:
            target = row - BEFORE
    if counts:
        last = tl.load(starts + group + 1)
        for first in tl.range(tl.load(starts + group), last, AT_ONCE):
            place = first + tl.arange(0, AT_ONCE)
            exists = place < last
            source = place
            if order is not None:
                source = tl.load(order + place, mask=exists, other=0)
            found = gradients + source[:, None] * WIDTH + dim[None, :]
            total += tl.sum(tl.load(found, mask=exists[:, None] & inside[None, :], other=0.0), axis=0)
    if BEFORE is not None:
        inside = inside & counts
    elif not FILLED:
        inside = inside & there
    tl.store(sums + target * WIDTH + dim, total, mask=inside)
