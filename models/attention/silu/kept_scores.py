"""Gradients of scores, kept for the queries where heads are wide, instead of being computed again.

The kernel for the keys writes those of every tile, in the type of q, as [heads, tokens, places]: a row for
each key, in it a number for each query of its sequence. Gradients of q are then one product with them. That
saves two products of three for two passes over the memory that they take: 4 bytes a pair and head beside
4 x 256 operations, which on an H100 or H200 is a third of the time; with heads of 128 it would be nothing.

Everything is written and added up in one order, as ever.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.masking import key_ranges, load_rule
from models.attention.silu.tile_io import UNSPECIALIZED, load_rows, load_tile_entry, store_rows
from models.gpu.interpreter import INTERPRETED

_NATIVE = tl.constexpr(not INTERPRETED)
ALIGNED = 128
"""Places in a row are a multiple of this, so that whole tiles of queries can be written and read."""
WIDER_THAN = 128
"""Heads of which it pays."""


def row_of(longest: int) -> int:
    """Numbers that a row has, for sequences of at most so many tokens."""
    return -(-longest // ALIGNED) * ALIGNED


@triton.jit
def keep_scores(kept, stride, dscores, first_query, first_key, length):
    """Write the gradients of a tile of scores, [keys, queries]; `kept` is the row of the sequence's first
    key."""
    QUERIES: tl.constexpr = dscores.shape[1]
    row = tl.arange(0, dscores.shape[0])[:, None]
    # That tiles begin at multiples of their size the compiler does not see, and would write number by number.
    places = kept + tl.cast(first_key, tl.int64) * stride + first_query // QUERIES * QUERIES
    places = places + row * stride + tl.arange(0, QUERIES)[None, :]
    tl.store(places, dscores, mask=first_key + row < length)


@triton.jit
def load_kept(kept, stride, first_query, first_key, length, MASKED: tl.constexpr, C: tl.constexpr):
    """A tile [queries, keys] of what was kept. With MASKED zeros for what no query sees: it was never
    written."""
    key = first_key + tl.arange(0, C.KEYS)[:, None]
    query = first_query + tl.arange(0, C.QUERIES)[None, :]
    places = kept + tl.cast(first_key, tl.int64) * stride + first_query
    places = places + tl.arange(0, C.KEYS)[:, None] * stride + tl.arange(0, C.QUERIES)[None, :]
    if MASKED:
        found = tl.load(places, mask=(key < length) & (query < length) & (query >= key), other=0.0)
    else:
        found = tl.load(places)
    return tl.trans(found)


@triton.jit
def _add_tile(
    dq_tile, kept, stride, k, first_query, first_key, length, MASKED: tl.constexpr, C: tl.constexpr
):
    """Add a tile of keys."""
    dscores = load_kept(kept, stride, first_query, first_key, length, MASKED, C)
    k_tile = load_rows(k, C.FIRST_STRIDE, first_key, length, C.KEYS, C.QK_DIM, C.QK_WIDTH, MASKED, KNOWN=True)
    return tl.dot(dscores, k_tile, dq_tile, input_precision=C.PRECISION)


@triton.jit
def scores_layout(C: tl.constexpr):
    """Zeros [queries, keys] in the layout of the matrix units: what is added to them has it, too."""
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    if _NATIVE:
        return tl.dot(tl.zeros((QUERIES, 16), tl.bfloat16), tl.zeros((16, KEYS), tl.bfloat16))
    else:
        return tl.zeros((QUERIES, KEYS), tl.float32)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def kept_query_gradient_kernel(
    k, kept, kept_stride, dq, tiles, num_tiles, tokens, k_head, dq_stride, qk_scale, output_scale,
    C: tl.constexpr,
):  # fmt: skip
    """Gradients of q, of a causal mask, and of no tables: one program a tile of queries and a head."""
    head = tl.program_id(0)
    start, length, number, _, sequence = load_tile_entry(tiles, num_tiles, tl.program_id(1))
    first = ((length + C.QUERIES - 1) // C.QUERIES - 1 - number) * C.QUERIES
    if length == 0:
        return
    k += start * C.FIRST_STRIDE + head * k_head
    kept += (head.to(tl.int64) * tokens + start) * kept_stride
    dq += start * dq_stride + head * C.QK_DIM
    rule, _ = load_rule(None, 0, sequence, start, length, 0, 0, 0, C.MASK)
    ranges = key_ranges(first, length, rule, C.QUERIES, C.KEYS, C.MASK)
    QUERIES: tl.constexpr = C.QUERIES
    QK_WIDTH: tl.constexpr = C.QK_WIDTH
    dq_tile = tl.zeros((QUERIES, QK_WIDTH), tl.float32)
    for first_key in tl.range(0, ranges.whole_end, C.KEYS):
        dq_tile = _add_tile(dq_tile, kept, kept_stride, k, first, first_key, length, False, C)
    for first_key in tl.range(ranges.whole_end, ranges.end, C.KEYS, num_stages=1):
        dq_tile = _add_tile(dq_tile, kept, kept_stride, k, first, first_key, length, True, C)
    dq_tile *= qk_scale * output_scale
    store_rows(dq, dq_stride, first, length, dq_tile, C.QUERIES, C.QK_DIM, C.QK_WIDTH)
