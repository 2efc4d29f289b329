"""SiLU of some columns of a projection, and the gradient of all of it put together, each in one pass.

A projection is [tokens, columns]: first those of the gate, if any, then those of values, queries and keys,
which alone are activated; the gate is where it is used. Programs take ROWS x COLUMNS numbers.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl


class Parts(NamedTuple):
    """What the kernels are compiled for: one `tl.constexpr` argument."""

    STRIDE: int
    """Of the projection, from row to row."""
    GATE: int
    """Columns of the gate; 0: there is none."""
    VALUE: int
    QUERY: int
    KEY: int
    GATE_STRIDE: int
    """Of given gradients, from row to row."""
    VALUE_STRIDE: int
    QUERY_STRIDE: int
    KEY_STRIDE: int
    ROWS: int
    """Of a tile."""
    COLUMNS: int
    VECTOR: int
    """Numbers that a thread reads at a time."""


@triton.jit
def _places(
    tensor, first, column, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    VECTOR: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLUMNS] from a row and a column on. Only the step to the row can pass 2^31 elements."""
    inside = tl.arange(0, ROWS)[:, None] * STRIDE + tl.arange(0, COLUMNS)[None, :]
    begin = tensor + tl.cast(first, tl.int64) * STRIDE + column
    return tl.max_contiguous(begin + inside, [1, VECTOR])


@triton.jit
def _exists(first, column, tokens, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = first + tl.arange(0, ROWS)
    return (row < tokens)[:, None] & (column + tl.arange(0, COLUMNS) < WIDTH)[None, :]


@triton.jit(do_not_specialize=("tokens",))
def activate_kernel(projected, out, tokens, SIZES: tl.constexpr):
    """`out`, dense, is SiLU of all columns but those of the gate."""
    WIDTH: tl.constexpr = SIZES.VALUE + SIZES.QUERY + SIZES.KEY
    ROWS: tl.constexpr = SIZES.ROWS
    COLUMNS: tl.constexpr = SIZES.COLUMNS
    first, column = tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS
    exists = _exists(first, column, tokens, WIDTH, ROWS, COLUMNS)
    source = _places(projected, first, SIZES.GATE + column, SIZES.STRIDE, ROWS, COLUMNS, SIZES.VECTOR)
    x = tl.load(source, mask=exists, other=0.0).to(tl.float32)
    found = x / (1.0 + tl.exp(-x))
    target = _places(out, first, column, WIDTH, ROWS, COLUMNS, SIZES.VECTOR)
    tl.store(target, found.to(out.dtype.element_ty), mask=exists)


@triton.jit
def _join_part(
    projected, given, out, first, column, tokens, PLACE: tl.constexpr, WIDTH: tl.constexpr,
    GIVEN_STRIDE: tl.constexpr, ACTIVATED: tl.constexpr, SIZES: tl.constexpr,
):  # fmt: skip
    """One tile of a part that begins at column PLACE of the projection."""
    ROWS: tl.constexpr = SIZES.ROWS
    COLUMNS: tl.constexpr = SIZES.COLUMNS
    TOTAL: tl.constexpr = SIZES.GATE + SIZES.VALUE + SIZES.QUERY + SIZES.KEY
    exists = _exists(first, column, tokens, WIDTH, ROWS, COLUMNS)
    source = _places(given, first, column, GIVEN_STRIDE, ROWS, COLUMNS, SIZES.VECTOR)
    slope = tl.load(source, mask=exists, other=0.0).to(tl.float32)
    if ACTIVATED:
        before = _places(projected, first, PLACE + column, SIZES.STRIDE, ROWS, COLUMNS, SIZES.VECTOR)
        x = tl.load(before, mask=exists, other=0.0).to(tl.float32)
        sigmoid = 1.0 / (1.0 + tl.exp(-x))
        slope *= sigmoid * (1.0 + x * (1.0 - sigmoid))
    target = _places(out, first, PLACE + column, TOTAL, ROWS, COLUMNS, SIZES.VECTOR)
    tl.store(target, slope.to(out.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=("tokens",))
def join_kernel(projected, dgate, dvalue, dquery, dkey, out, tokens, SIZES: tl.constexpr):
    """`out`, dense, is the gradient of the projection: that of the gate as it is, the others those of what is
    activated. Programs of the second axis go through the parts' columns, part after part."""
    ROWS: tl.constexpr = SIZES.ROWS
    COLUMNS: tl.constexpr = SIZES.COLUMNS
    GATE: tl.constexpr = SIZES.GATE
    VALUE: tl.constexpr = SIZES.VALUE
    QUERY: tl.constexpr = SIZES.QUERY
    # Programs before each part.
    values: tl.constexpr = (GATE + COLUMNS - 1) // COLUMNS
    queries: tl.constexpr = values + (VALUE + COLUMNS - 1) // COLUMNS
    keys: tl.constexpr = queries + (QUERY + COLUMNS - 1) // COLUMNS
    first, block = tl.program_id(0) * ROWS, tl.program_id(1)
    if block < values:
        if dgate is not None:
            _join_part(
                projected, dgate, out, first, block * COLUMNS, tokens, 0, GATE, SIZES.GATE_STRIDE, False,
                SIZES,
            )  # fmt: skip
    elif block < queries:
        _join_part(
            projected, dvalue, out, first, (block - values) * COLUMNS, tokens, GATE, VALUE,
            SIZES.VALUE_STRIDE, True, SIZES,
        )  # fmt: skip
    elif block < keys:
        _join_part(
            projected, dquery, out, first, (block - queries) * COLUMNS, tokens, GATE + VALUE, QUERY,
            SIZES.QUERY_STRIDE, True, SIZES,
        )  # fmt: skip
    else:
        _join_part(
            projected, dkey, out, first, (block - keys) * COLUMNS, tokens, GATE + VALUE + QUERY, SIZES.KEY,
            SIZES.KEY_STRIDE, True, SIZES,
        )  # fmt: skip
