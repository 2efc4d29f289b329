"""Gradients of keys: scores recomputed by tiles of past events.

Scores are computed once more for the queries (`query_gradients`); that saves all atomics: each gradient is
written once, in a fixed order.
"""
# mypy: allow-untyped-defs
# ruff: noqa: N803, N806

from __future__ import annotations

import triton
import triton.language as tl

from models.attention.silu.tile_io import load_rows, load_tile_entry, store_rows
from models.history.kernels.arguments import Columns, Tables
from models.history.kernels.pairs import (
    load_events,
    load_masses,
    load_queries,
    make_tile,
    narrow,
    score,
    score_gradients,
)


@triton.jit(do_not_specialize=("num_tiles", "room", "num_blocks"))
def key_gradient_kernel(
    query, key, masses, dkey, scale, tiles, num_tiles, packed, room, seconds, query_time, timestamp, bounds,
    num_blocks, states, time, boundaries, wide_boundaries, recency, C: tl.constexpr,
):  # fmt: skip
    """A program is a tile of past events. The first tile is seen the most, and goes first."""
    start, length, number, blocks, _ = load_tile_entry(tiles, num_tiles, tl.program_id(0))
    if length == 0:
        return
    QUERIES: tl.constexpr = C.QUERIES
    KEYS: tl.constexpr = C.KEYS
    WIDTH: tl.constexpr = C.WIDTH
    first = number * KEYS
    columns = Columns(packed, room, seconds, query_time, timestamp)
    tables = Tables(states, time, boundaries, wide_boundaries, recency)
    events = load_events(columns, start, first, KEYS, 1, C)
    query += start * C.QUERY_STRIDE
    key += start * C.KEY_STRIDE
    dkey += start * C.DIM
    key_tile = load_rows(key, C.KEY_STRIDE, first, length, KEYS, C.DIM, WIDTH, True)
    dkey_tile = tl.zeros((KEYS, WIDTH), tl.float32)
    for counted in tl.range(first // QUERIES * QUERIES, length, QUERIES):
        first_query = narrow(counted)
        queries = load_queries(columns, start, first_query, QUERIES, 0, C)
        given = load_masses(masses, room, start, first_query, length, QUERIES, 0)
        query_tile = load_rows(
            query, C.QUERY_STRIDE, first_query, length, QUERIES, C.DIM, WIDTH, True, KNOWN=True
        )
        product = tl.dot(key_tile, tl.trans(query_tile), input_precision=C.PRECISION)
        tile = make_tile(bounds, num_blocks, blocks, start, length, first_query, first, QUERIES, KEYS)
        scores = score(product, queries, events, columns, tables, tile, False, C)[0]
        gradients = score_gradients(scores, queries, events, given)
        dkey_tile = tl.dot(gradients.to(query_tile.dtype), query_tile, dkey_tile, input_precision=C.PRECISION)
    if scale is not None:
        dkey_tile *= tl.load(scale)
    store_rows(dkey, C.DIM, first, length, dkey_tile, KEYS, C.DIM, WIDTH)
