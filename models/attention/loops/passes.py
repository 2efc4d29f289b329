"""Forward and backward of some sequences and heads, tile by tile."""

from __future__ import annotations

import numpy as np

from models.attention.loops.activations import silu, silu_with_slope, softmax_step, softmax_with_slope
from models.attention.loops.bias import add_bias, add_bias_gradient, buckets_of_tile
from models.attention.loops.call import KEYS, QUERIES, SILU, SOFTMAX, Place, compiled, inner
from models.attention.loops.tiles import (
    accumulate_columns,
    accumulate_rows,
    clear,
    load_columns,
    multiply,
    store_columns,
)
from models.attention.loops.visibility import hide, meet

# A score that nothing falls below, yet finite: the compiled code assumes that there are no infinities.
HIDDEN = np.float32(-1e30)


@inner
def _first_tile(call, sequence, head, query):  # type: ignore[no-untyped-def]
    """The first tile of keys of a tile of queries, and where its keys end."""
    begin = call.offsets[sequence]
    length = call.offsets[sequence + 1] - begin
    queries = min(QUERIES, length - query)
    end = query + queries
    if query < call.context:
        end = max(end, min(call.context, length))
    query_begin = call.query_offsets[sequence + 1] - length
    history = call.history[sequence]
    at = Place(sequence, head, begin, query_begin, length, history, query, queries, 0, min(KEYS, end))
    return at, end


@inner
def _at_key(at, key, end):  # type: ignore[no-untyped-def]
    """The same queries with keys from `key` on."""
    keys = min(KEYS, end - key)
    return Place(
        at.sequence, at.head, at.begin, at.query_begin, at.length, at.history, at.query, at.queries, key, keys
    )


@inner
def _queries(call, sequence):  # type: ignore[no-untyped-def]
    """Places of a sequence's first query and of its end."""
    length = call.offsets[sequence + 1] - call.offsets[sequence]
    asked = call.query_offsets[sequence + 1] - call.query_offsets[sequence]
    return length - asked, length


@compiled
def forward(call, q, k, v, units, out, normalizer):  # type: ignore[no-untyped-def]
    """Attention of some sequences and heads.

    Args:
        call: a `BlockedCall`.
        q: [query tokens, heads, qk_dim] float32.
        k, v: [tokens, heads, dim] float32.
        units: [units, 2] (sequence, head) to compute.
        out: [query tokens, heads, v_dim], written.
        normalizer: [query tokens, heads], written by softmax: the logarithm of each query's normalizer.
    """
    columns = np.empty((q.shape[2], QUERIES), np.float32)
    result = np.empty((v.shape[2], QUERIES), np.float32)
    tile = np.empty((KEYS, QUERIES), np.float32)
    peak = np.empty(QUERIES, np.float32)
    total = np.empty(QUERIES, np.float32)
    shrink = np.empty(QUERIES, np.float32)
    scratch = np.zeros(KEYS * QUERIES, np.uint8)
    for unit in range(units.shape[0]):
        sequence, head = units[unit, 0], units[unit, 1]
        first, length = _queries(call, sequence)
        for query in range(first, length, QUERIES):
            at, end = _first_tile(call, sequence, head, query)
            token = at.query_begin + query
            load_columns(q, head, token, at.queries, call.qk_scale, columns)
            clear(result)
            for i in range(QUERIES):
                peak[i], total[i] = HIDDEN, np.float32(0.0)
            for key in range(0, end, KEYS):
                at = _at_key(at, key, end)
                if not meet(call, at):
                    continue
                multiply(k, head, at.begin + key, at.keys, columns, tile)
                buckets, start, stride = buckets_of_tile(call, at, scratch)
                add_bias(call, at, tile, buckets, start, stride)
                if call.activation == SOFTMAX:
                    hide(call, at, tile, HIDDEN)
                    softmax_step(tile, at.keys, peak, total, shrink, result)
                elif call.activation == SILU:
                    silu(tile, at.keys)
                hide(call, at, tile, np.float32(0.0))
                accumulate_columns(v, head, at.begin + key, at.keys, tile, result)
            if call.activation == SOFTMAX:
                for d in range(result.shape[0]):
                    for i in range(QUERIES):
                        result[d, i] /= total[i]
                for i in range(at.queries):
                    normalizer[token + i, head] = peak[i] + np.log(total[i])
            store_columns(result, head, token, at.queries, call.output_scale, out)


@compiled
def backward(  # type: ignore[no-untyped-def]
    call, q, k, v, units, out, normalizer, out_gradient, dq, dk, dv, dposition, dtime, ddecay
):
    """Gradients of `forward`, for the same units.

    Args:
        call, q, k, v, units, out, normalizer: as in `forward`, filled in.
        out_gradient: like out.
        dq, dk, dv: like q, k, v, written; zeros before.
        dposition, dtime, ddecay: like the call's tables, but float64; added to.
    """
    columns = np.empty((q.shape[2], QUERIES), np.float32)
    dcolumns = np.empty((q.shape[2], QUERIES), np.float32)
    dresult = np.empty((v.shape[2], QUERIES), np.float32)
    tile = np.empty((KEYS, QUERIES), np.float32)
    dtile = np.empty((KEYS, QUERIES), np.float32)
    level = np.empty(QUERIES, np.float32)
    mean_gradient = np.empty(QUERIES, np.float32)
    scratch = np.zeros(KEYS * QUERIES, np.uint8)
    for unit in range(units.shape[0]):
        sequence, head = units[unit, 0], units[unit, 1]
        first, length = _queries(call, sequence)
        for query in range(first, length, QUERIES):
            at, end = _first_tile(call, sequence, head, query)
            token = at.query_begin + query
            load_columns(q, head, token, at.queries, call.qk_scale, columns)
            load_columns(out_gradient, head, token, at.queries, call.output_scale, dresult)
            clear(dcolumns)
            if call.activation == SOFTMAX:
                for i in range(QUERIES):
                    level[i], mean_gradient[i] = np.float32(0.0), np.float32(0.0)
                for i in range(at.queries):
                    level[i] = normalizer[token + i, head]
                    mean_gradient[i] = np.sum(out[token + i, head] * out_gradient[token + i, head])
            for key in range(0, end, KEYS):
                at = _at_key(at, key, end)
                if not meet(call, at):
                    continue
                multiply(k, head, at.begin + key, at.keys, columns, tile)
                multiply(v, head, at.begin + key, at.keys, dresult, dtile)
                buckets, start, stride = buckets_of_tile(call, at, scratch)
                add_bias(call, at, tile, buckets, start, stride)
                if call.activation == SOFTMAX:
                    softmax_with_slope(tile, at.keys, level, mean_gradient, dtile)
                elif call.activation == SILU:
                    silu_with_slope(tile, at.keys, dtile)
                hide(call, at, tile, np.float32(0.0))
                hide(call, at, dtile, np.float32(0.0))
                accumulate_rows(tile, dresult, head, at.begin + key, at.keys, dv)
                accumulate_rows(dtile, columns, head, at.begin + key, at.keys, dk)
                accumulate_columns(k, head, at.begin + key, at.keys, dtile, dcolumns)
                add_bias_gradient(call, at, dtile, buckets, start, stride, dposition, dtime, ddecay)
            store_columns(dcolumns, head, token, at.queries, call.qk_scale, dq)
