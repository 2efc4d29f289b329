"""The loops of the blocked CPU kernel, compiled by Numba: tile by tile, one sequence and head at a time.

Scores are never kept: backward computes each tile of them again. Softmax keeps one number a query, the
logarithm of its normalizer (FlashAttention, arXiv 2205.14135). Scratch memory is a few tiles.

A tile holds numbers of up to `KEYS` keys (rows) against `QUERIES` queries (columns). Queries lie along the
fast axis, and what belongs to them (queries, results, their gradients) is kept transposed as "columns",
[dim, QUERIES]. So every inner loop runs over a constant number of neighbors, whatever the head dimension,
and becomes vector code. `source` and `out` are [tokens, heads, dim] float32, `first` is a token and `rows`
how many of the tile's keys (or queries) exist.

One file on purpose: Numba's cache of compiled code notices a change of the file that a function stands in,
but not of the files it calls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from models.attention.bias import BUCKET_STARTS

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

QUERIES = 32
KEYS = 64
# A score that nothing falls below, yet finite: the compiled code assumes that there are no infinities.
HIDDEN = np.float32(-1e30)
# Position tables are framed by this many zeros on both sides, so that whole tiles can read past their ends.
FRAME = QUERIES


class Problem(NamedTuple):
    """What forward and backward both need, as arrays and numbers that Numba understands."""

    offsets: Int64Array
    """[sequences + 1]"""
    window: int
    """A query sees itself and the `window - 1` events before it."""
    softmax: bool
    qk_scale: np.float32
    output_scale: np.float32
    position: Float32Array
    """[FRAME + table + FRAME], or empty without a position bias."""
    time: Float32Array
    """[129], or empty without a time bias."""
    query_time: Int64Array
    timestamp: Int64Array
    buckets: npt.NDArray[np.uint8]
    """Buckets of whole sequences, [keys, queries] each, end to end; empty: find them tile by tile."""
    bucket_offsets: Int64Array
    """[sequences] where each sequence starts in `buckets`."""


compiled = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
_inlined = njit(nogil=True, cache=True, fastmath=True, error_model="numpy", inline="always")


@compiled
def load_columns(source, head, first, rows, factor, columns):  # type: ignore[no-untyped-def]
    """columns[d, i] = factor * source[first + i, head, d], zero for queries that do not exist."""
    for d in range(source.shape[2]):
        for i in range(rows):
            columns[d, i] = factor * source[first + i, head, d]
        for i in range(rows, QUERIES):
            columns[d, i] = 0.0


@compiled
def store_columns(columns, head, first, rows, factor, out):  # type: ignore[no-untyped-def]
    """out[first + i, head, d] = factor * columns[d, i]."""
    for i in range(rows):
        for d in range(out.shape[2]):
            out[first + i, head, d] = factor * columns[d, i]


@compiled
def multiply(source, head, first, rows, columns, tile):  # type: ignore[no-untyped-def]
    """tile[j, i] = sum over d of source[first + j, head, d] * columns[d, i]."""
    dim = source.shape[2]
    for j in range(rows):
        row = source[first + j, head]
        for i in range(QUERIES):
            tile[j, i] = 0.0
        even = dim - dim % 8
        for d in range(0, even, 8):
            r0, r1, r2, r3 = row[d], row[d + 1], row[d + 2], row[d + 3]
            r4, r5, r6, r7 = row[d + 4], row[d + 5], row[d + 6], row[d + 7]
            for i in range(QUERIES):
                tile[j, i] += (
                    r0 * columns[d, i]
                    + r1 * columns[d + 1, i]
                    + r2 * columns[d + 2, i]
                    + r3 * columns[d + 3, i]
                    + r4 * columns[d + 4, i]
                    + r5 * columns[d + 5, i]
                    + r6 * columns[d + 6, i]
                    + r7 * columns[d + 7, i]
                )
        for d in range(even, dim):
            r0 = row[d]
            for i in range(QUERIES):
                tile[j, i] += r0 * columns[d, i]


@compiled
def accumulate_columns(source, head, first, rows, tile, columns):  # type: ignore[no-untyped-def]
    """columns[d, i] += sum over j of source[first + j, head, d] * tile[j, i]."""
    even = rows - rows % 8
    for d in range(source.shape[2]):
        for j in range(0, even, 8):
            t = first + j
            r0, r1 = source[t, head, d], source[t + 1, head, d]
            r2, r3 = source[t + 2, head, d], source[t + 3, head, d]
            r4, r5 = source[t + 4, head, d], source[t + 5, head, d]
            r6, r7 = source[t + 6, head, d], source[t + 7, head, d]
            for i in range(QUERIES):
                columns[d, i] += (
                    r0 * tile[j, i]
                    + r1 * tile[j + 1, i]
                    + r2 * tile[j + 2, i]
                    + r3 * tile[j + 3, i]
                    + r4 * tile[j + 4, i]
                    + r5 * tile[j + 5, i]
                    + r6 * tile[j + 6, i]
                    + r7 * tile[j + 7, i]
                )
        for j in range(even, rows):
            r0 = source[first + j, head, d]
            for i in range(QUERIES):
                columns[d, i] += r0 * tile[j, i]


@compiled
def accumulate_rows(tile, columns, head, first, rows, out):  # type: ignore[no-untyped-def]
    """out[first + j, head, d] += sum over i of tile[j, i] * columns[d, i]."""
    dim = out.shape[2]
    even = dim - dim % 4
    for j in range(rows):
        for d in range(0, even, 4):
            s0 = s1 = s2 = s3 = np.float32(0.0)
            for i in range(QUERIES):
                weight = tile[j, i]
                s0 += weight * columns[d, i]
                s1 += weight * columns[d + 1, i]
                s2 += weight * columns[d + 2, i]
                s3 += weight * columns[d + 3, i]
            out[first + j, head, d] += s0
            out[first + j, head, d + 1] += s1
            out[first + j, head, d + 2] += s2
            out[first + j, head, d + 3] += s3
        for d in range(even, dim):
            s0 = np.float32(0.0)
            for i in range(QUERIES):
                s0 += tile[j, i] * columns[d, i]
            out[first + j, head, d] += s0


@_inlined
def exp32(x):  # type: ignore[no-untyped-def]
    """exp(x) to float32 precision in operations that vectorize, which math.exp does not.

    exp(x) = 2^n * exp(r) with r about -ln(2)/2 to ln(2)/2; ln(2) in two parts keeps r exact (Cody and Waite),
    a Taylor polynomial gives exp(r), and n goes straight into the exponent's bits.
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.int32(x * np.float32(1.44269504) + np.float32(128.5)) - np.int32(128)
    r = x - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    return p * np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def silu(tile, rows):  # type: ignore[no-untyped-def]
    """tile = SiLU(tile)."""
    for j in range(rows):
        for i in range(QUERIES):
            score = tile[j, i]
            tile[j, i] = score / (np.float32(1.0) + exp32(-score))


@compiled
def silu_with_slope(tile, rows, gradient):  # type: ignore[no-untyped-def]
    """tile = SiLU(tile), and gradient *= SiLU'(tile)."""
    for j in range(rows):
        for i in range(QUERIES):
            score = tile[j, i]
            gate = np.float32(1.0) / (np.float32(1.0) + exp32(-score))
            tile[j, i] = score * gate
            gradient[j, i] *= gate * (np.float32(1.0) + score * (np.float32(1.0) - gate))


@compiled
def softmax_step(tile, rows, peak, total, shrink, columns):  # type: ignore[no-untyped-def]
    """One tile of an online softmax: tile = exp(tile - peak), after `peak` has taken in the tile.

    `peak` and `total` [QUERIES] run along, and `columns`, the result so far, is rescaled to the new peak.
    `shrink` [QUERIES] is scratch.
    """
    shrink[:] = peak
    for j in range(rows):
        for i in range(QUERIES):
            peak[i] = max(peak[i], tile[j, i])
    for i in range(QUERIES):
        shrink[i] = exp32(shrink[i] - peak[i])
        total[i] *= shrink[i]
    for d in range(columns.shape[0]):
        for i in range(QUERIES):
            columns[d, i] *= shrink[i]
    for j in range(rows):
        for i in range(QUERIES):
            tile[j, i] = exp32(tile[j, i] - peak[i])
            total[i] += tile[j, i]


@compiled
def softmax_with_slope(tile, rows, normalizer, mean_gradient, gradient):  # type: ignore[no-untyped-def]
    """tile = exp(tile - normalizer), the weights, and gradient = weights * (gradient - mean_gradient)."""
    for j in range(rows):
        for i in range(QUERIES):
            tile[j, i] = exp32(tile[j, i] - normalizer[i])
            gradient[j, i] = tile[j, i] * (gradient[j, i] - mean_gradient[i])


@compiled
def hide(tile, rows, distance, window, value):  # type: ignore[no-untyped-def]
    """tile[j, i] = value where query i does not see key j.

    `distance` is the place of the tile's first query minus that of its first key.
    """
    if distance >= rows - 1 and distance + QUERIES <= window:
        return
    for j in range(rows):
        for i in range(QUERIES):
            apart = distance + i - j
            if apart < 0 or apart >= window:
                tile[j, i] = value


def _bucket_index() -> tuple[npt.NDArray[np.uint8], Int64Array]:
    """Tables that lead from a float64's exponent and three leading mantissa bits to a bucket.

    Neighboring entries are at most a factor 9/8 apart, less than the exp(0.301) of a bucket, so at most one
    bucket starts in between, and one comparison settles which side of it a difference is on.
    """
    bits = np.arange(1023 << 3, (1023 + 64) << 3, dtype=np.int64) << 49
    lower_ends = bits.view(np.float64)
    starts = np.array([*BUCKET_STARTS, np.iinfo(np.int64).max], dtype=np.int64)
    return (np.searchsorted(starts[:-1], np.floor(lower_ends), side="right") - 1).astype(np.uint8), starts


_BUCKET_AT, _STARTS = _bucket_index()
_FIRST_INDEX = 1023 << 3


@compiled
def find_buckets(query_time, timestamp, buckets, start, stride):  # type: ignore[no-untyped-def]
    """buckets[start + j * stride + i] = bucket(query_time[i] - timestamp[j])."""
    for j in range(timestamp.shape[0]):
        for i in range(query_time.shape[0]):
            apart = np.int64(max(abs(query_time[i] - timestamp[j]), 1))
            bucket = _BUCKET_AT[(np.float64(apart).view(np.int64) >> 49) - _FIRST_INDEX]
            buckets[start + j * stride + i] = bucket + (apart >= _STARTS[bucket + 1])


@compiled
def find_all_buckets(offsets, query_time, timestamp, buckets, bucket_offsets):  # type: ignore[no-untyped-def]
    """Fill `Problem.buckets` for whole sequences."""
    for sequence in range(bucket_offsets.shape[0]):
        begin, end = offsets[sequence], offsets[sequence + 1]
        start = bucket_offsets[sequence]
        find_buckets(query_time[begin:end], timestamp[begin:end], buckets, start, end - begin)


@compiled
def _buckets_of_tile(problem, sequence, query, key, rows, scratch):  # type: ignore[no-untyped-def]
    """Where the tile's buckets are, as array, start and stride; finds them if they were not found before."""
    begin, end = problem.offsets[sequence], problem.offsets[sequence + 1]
    length = end - begin
    if problem.buckets.shape[0] > 0:
        return problem.buckets, problem.bucket_offsets[sequence] + key * length + query, length
    queries = problem.query_time[begin + query : min(begin + query + QUERIES, end)]
    if problem.time.shape[0] > 0:
        find_buckets(queries, problem.timestamp[begin + key : begin + key + rows], scratch, 0, QUERIES)
    return scratch, 0, QUERIES


@compiled
def _add_bias(problem, tile, distance, rows, buckets, start, stride):  # type: ignore[no-untyped-def]
    """tile[j, i] += position[distance + i - j] + time[bucket]."""
    if problem.position.shape[0] > 0:
        for j in range(rows):
            place = FRAME + distance - j
            for i in range(QUERIES):
                tile[j, i] += problem.position[place + i]
    if problem.time.shape[0] > 0:
        for j in range(rows):
            place = start + j * stride
            for i in range(QUERIES):
                tile[j, i] += problem.time[buckets[place + i]]


@compiled
def _add_bias_gradient(gradient, distance, rows, buckets, start, stride, position, time):  # type: ignore[no-untyped-def]
    """The counterpart of `_add_bias`: sums of the score gradient, in float64 since they are long."""
    if position.shape[0] > 0:
        for j in range(rows):
            place = FRAME + distance - j
            for i in range(QUERIES):
                position[place + i] += gradient[j, i]
    if time.shape[0] > 0:
        for j in range(rows):
            place = start + j * stride
            for i in range(QUERIES):
                time[buckets[place + i]] += gradient[j, i]


@compiled
def forward(problem, q, k, v, units, out, normalizer):  # type: ignore[no-untyped-def]
    """Attention of some sequences and heads.

    Args:
        problem: a `Problem`.
        q, k, v: [tokens, heads, dim] float32.
        units: [units, 2] (sequence, head) to compute.
        out: [tokens, heads, v_dim], written.
        normalizer: [tokens, heads], written by softmax: the logarithm of each query's normalizer.
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
        begin = problem.offsets[sequence]
        length = problem.offsets[sequence + 1] - begin
        for query in range(0, length, QUERIES):
            queries = min(QUERIES, length - query)
            load_columns(q, head, begin + query, queries, problem.qk_scale, columns)
            result[:] = 0.0
            peak[:] = HIDDEN
            total[:] = 0.0
            for key in range(max(0, query - problem.window + 1), query + queries, KEYS):
                rows = min(KEYS, query + queries - key)
                multiply(k, head, begin + key, rows, columns, tile)
                buckets, start, stride = _buckets_of_tile(problem, sequence, query, key, rows, scratch)
                _add_bias(problem, tile, query - key, rows, buckets, start, stride)
                if problem.softmax:
                    hide(tile, rows, query - key, problem.window, HIDDEN)
                    softmax_step(tile, rows, peak, total, shrink, result)
                else:
                    silu(tile, rows)
                hide(tile, rows, query - key, problem.window, np.float32(0.0))
                accumulate_columns(v, head, begin + key, rows, tile, result)
            if problem.softmax:
                result /= total
                for i in range(queries):
                    normalizer[begin + query + i, head] = peak[i] + np.log(total[i])
            store_columns(result, head, begin + query, queries, problem.output_scale, out)


@compiled
def backward(  # type: ignore[no-untyped-def]
    problem, q, k, v, units, out, normalizer, out_gradient, dq, dk, dv, dposition, dtime
):
    """Gradients of `forward`, for the same units.

    Args:
        problem, q, k, v, units, out, normalizer: as in `forward`, filled in.
        out_gradient: [tokens, heads, v_dim].
        dq, dk, dv: like q, k, v, written; zeros before.
        dposition: [FRAME + table + FRAME] float64, added to; empty without a position bias.
        dtime: [129] float64, added to; empty without a time bias.
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
        begin = problem.offsets[sequence]
        length = problem.offsets[sequence + 1] - begin
        for query in range(0, length, QUERIES):
            queries = min(QUERIES, length - query)
            load_columns(q, head, begin + query, queries, problem.qk_scale, columns)
            load_columns(out_gradient, head, begin + query, queries, problem.output_scale, dresult)
            dcolumns[:] = 0.0
            if problem.softmax:
                level[:] = 0.0
                mean_gradient[:] = 0.0
                for i in range(queries):
                    token = begin + query + i
                    level[i] = normalizer[token, head]
                    mean_gradient[i] = np.sum(out[token, head] * out_gradient[token, head])
            for key in range(max(0, query - problem.window + 1), query + queries, KEYS):
                rows = min(KEYS, query + queries - key)
                distance = query - key
                multiply(k, head, begin + key, rows, columns, tile)
                multiply(v, head, begin + key, rows, dresult, dtile)
                buckets, start, stride = _buckets_of_tile(problem, sequence, query, key, rows, scratch)
                _add_bias(problem, tile, distance, rows, buckets, start, stride)
                if problem.softmax:
                    softmax_with_slope(tile, rows, level, mean_gradient, dtile)
                else:
                    silu_with_slope(tile, rows, dtile)
                hide(tile, rows, distance, problem.window, np.float32(0.0))
                hide(dtile, rows, distance, problem.window, np.float32(0.0))
                accumulate_rows(tile, dresult, head, begin + key, rows, dv)
                accumulate_rows(dtile, columns, head, begin + key, rows, dk)
                accumulate_columns(k, head, begin + key, rows, dtile, dcolumns)
                _add_bias_gradient(dtile, distance, rows, buckets, start, stride, dposition, dtime)
            store_columns(dcolumns, head, begin + query, queries, problem.qk_scale, dq)
