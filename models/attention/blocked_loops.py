"""The loops of the blocked CPU kernel, compiled by Numba: tile by tile, one sequence and head at a time.

Scores are never kept: backward computes each tile of them again. Softmax keeps one number a query, the
logarithm of its normalizer (FlashAttention, arXiv 2205.14135). Scratch memory is a few tiles.

A tile holds numbers of up to `KEYS` keys (rows) against `QUERIES` queries (columns). Queries lie along the
fast axis, and what belongs to them (queries, results, their gradients) is kept transposed as "columns",
[dim, QUERIES]. So every inner loop runs over a constant number of neighbors, whatever the head dimension,
and becomes vector code. `source` and `out` are [tokens, heads, dim] float32, `first` is a token and `rows`
how many of the tile's keys (or queries) exist.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled_with
from models.attention.bias import BUCKET_STARTS

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

QUERIES = 32
KEYS = 64
# A score that nothing falls below, yet finite: the compiled code assumes that there are no infinities.
HIDDEN = np.float32(-1e30)
# Position tables are framed by this many zeros on both sides, so that whole tiles can read past their ends.
FRAME = QUERIES


class BlockedCall(NamedTuple):
    """What forward and backward both need, as arrays and numbers that Numba understands.

    Bias tables have one row, for all heads, or a row a head.
    """

    offsets: Int64Array
    """[sequences + 1]"""
    query_offsets: Int64Array
    """[sequences + 1] of queries, which may be only the last tokens of each sequence."""
    history: Int64Array
    """[sequences] tokens before the candidates."""
    window: int
    """A query sees keys whose logical position is less than that before its own."""
    front: int
    """Tokens at the front that a window does not hide."""
    context: int
    """Tokens at the front that all have logical position 0 and see each other."""
    activation: int
    """SILU, SOFTMAX or IDENTITY."""
    qk_scale: np.float32
    output_scale: np.float32
    position: Float32Array
    """[rows, FRAME + table + FRAME], or without columns where there is no position bias."""
    time: Float32Array
    """[rows, 129], or without columns where there is no time bias."""
    decay: Float32Array
    """[rows, 2] amount and rate, or without columns where there is no decay."""
    power: bool
    """Whether the decay is a power of the difference, or else an exponential."""
    query_time: Int64Array
    timestamp: Int64Array
    buckets: npt.NDArray[np.uint8]
    """Buckets of whole sequences, [keys, queries] each, end to end; empty: find them tile by tile."""
    bucket_offsets: Int64Array
    """[sequences] where each sequence starts in `buckets`."""


class Place(NamedTuple):
    """Where a tile is."""

    sequence: int
    head: int
    begin: int
    """First token of the sequence."""
    query_begin: int
    """What is added to a query's place to get its row in q."""
    length: int
    history: int
    query: int
    """Place of the tile's first query."""
    queries: int
    key: int
    """Place of the tile's first key."""
    keys: int


SILU, SOFTMAX, IDENTITY = 0, 1, 2

compiled: Any = compiled_with(fastmath=True, error_model="numpy")
_inlined: Any = compiled_with(fastmath=True, error_model="numpy", inline="always")


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


@_inlined
def _logical_position(call, history, place):  # type: ignore[no-untyped-def]
    """Of a token (models.attention.masks.Mask)."""
    return max(min(place, history) - max(call.context - 1, 0), 0)


@compiled
def _keeps_distance(call, at):  # type: ignore[no-untyped-def]
    """Whether logical positions of all of a tile are token indices less one number: no context, no
    candidates."""
    return min(at.key, at.query) >= call.context - 1 and at.query + at.queries - 1 <= at.history


@compiled
def _meet(call, at):  # type: ignore[no-untyped-def]
    """Whether any query of the tile may see any of its keys."""
    if at.key + at.keys > at.query:
        return True
    if at.key >= at.history:
        return False
    last = _logical_position(call, at.history, at.key + at.keys - 1)
    return at.key < call.front or _logical_position(call, at.history, at.query) - last < call.window


@compiled
def hide(call, at, tile, value):  # type: ignore[no-untyped-def]
    """tile[j, i] = value where query i does not see key j."""
    distance = at.query - at.key
    if _keeps_distance(call, at) and at.key >= call.front:
        if distance >= at.keys - 1 and distance + QUERIES <= call.window:
            return
        for j in range(at.keys):
            for i in range(QUERIES):
                apart = distance + i - j
                if apart < 0 or apart >= call.window:
                    tile[j, i] = value
        return
    for j in range(at.keys):
        key = at.key + j
        key_position = _logical_position(call, at.history, key)
        for i in range(QUERIES):
            query = at.query + i
            apart = _logical_position(call, at.history, query) - key_position
            near = apart > 0 and (apart < call.window or key < call.front)
            if not (near or query == key or (query < call.context and key < call.context)):
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
def find_all_buckets(offsets, query_offsets, query_time, timestamp, buckets, bucket_offsets):  # type: ignore[no-untyped-def]
    """Fill `BlockedCall.buckets` for whole sequences."""
    for sequence in range(bucket_offsets.shape[0]):
        begin, end = query_offsets[sequence], query_offsets[sequence + 1]
        keys = timestamp[offsets[sequence] : offsets[sequence + 1]]
        find_buckets(query_time[begin:end], keys, buckets, bucket_offsets[sequence], end - begin)


@compiled
def _buckets_of_tile(call, at, scratch):  # type: ignore[no-untyped-def]
    """Where the tile's buckets are, as array, start and stride; finds them if they were not found before."""
    first = at.query_begin + at.query
    if call.buckets.shape[0] > 0:
        begin, end = call.query_offsets[at.sequence], call.query_offsets[at.sequence + 1]
        stride = end - begin
        start = call.bucket_offsets[at.sequence] + at.key * stride + first - begin
        return call.buckets, start, stride
    if call.time.shape[1] > 0:
        keys = call.timestamp[at.begin + at.key : at.begin + at.key + at.keys]
        find_buckets(call.query_time[first : first + at.queries], keys, scratch, 0, QUERIES)
    return scratch, 0, QUERIES


@compiled
def _row(table, head):  # type: ignore[no-untyped-def]
    """The row of a table that a head uses."""
    return head if table.shape[0] > 1 else 0


@compiled
def _add_bias(call, at, tile, buckets, start, stride):  # type: ignore[no-untyped-def]
    """tile[j, i] += position[p(i) - p(j)] + time[bucket] + decay."""
    if call.position.shape[1] > 0:
        table = call.position[_row(call.position, at.head)]
        if _keeps_distance(call, at):
            for j in range(at.keys):
                place = FRAME + at.query - at.key - j
                for i in range(QUERIES):
                    tile[j, i] += table[place + i]
        else:
            for j in range(at.keys):
                key_position = _logical_position(call, at.history, at.key + j)
                for i in range(QUERIES):
                    apart = _logical_position(call, at.history, at.query + i) - key_position
                    tile[j, i] += table[FRAME + max(apart, 0)]
    if call.time.shape[1] > 0:
        table = call.time[_row(call.time, at.head)]
        for j in range(at.keys):
            place = start + j * stride
            for i in range(QUERIES):
                tile[j, i] += table[buckets[place + i]]
    if call.decay.shape[1] > 0:
        amount, rate = call.decay[_row(call.decay, at.head)]
        for j in range(at.keys):
            for i in range(at.queries):
                tile[j, i] += amount * exp32(-rate * _exponent(call, at, i, j))


@compiled
def _exponent(call, at, i, j):  # type: ignore[no-untyped-def]
    """What the rate of a decay is multiplied by: the time difference of a pair, or its logarithm."""
    query_time = call.query_time[at.query_begin + at.query + i]
    apart = np.float32(abs(query_time - call.timestamp[at.begin + at.key + j]))
    return np.log(np.float32(1.0) + apart) if call.power else apart


@compiled
def _add_bias_gradient(call, at, gradient, buckets, start, stride, position, time, decay):  # type: ignore[no-untyped-def]
    """The counterpart of `_add_bias`: sums of the score gradient, in float64 since they are long."""
    if position.shape[1] > 0:
        sums = position[_row(position, at.head)]
        if _keeps_distance(call, at):
            for j in range(at.keys):
                place = FRAME + at.query - at.key - j
                for i in range(QUERIES):
                    sums[place + i] += gradient[j, i]
        else:
            for j in range(at.keys):
                key_position = _logical_position(call, at.history, at.key + j)
                for i in range(QUERIES):
                    apart = _logical_position(call, at.history, at.query + i) - key_position
                    sums[FRAME + max(apart, 0)] += gradient[j, i]
    if time.shape[1] > 0:
        sums = time[_row(time, at.head)]
        for j in range(at.keys):
            place = start + j * stride
            for i in range(QUERIES):
                sums[buckets[place + i]] += gradient[j, i]
    if decay.shape[1] > 0:
        sums = decay[_row(decay, at.head)]
        amount, rate = call.decay[_row(decay, at.head)]
        for j in range(at.keys):
            for i in range(at.queries):
                exponent = _exponent(call, at, i, j)
                level = gradient[j, i] * exp32(-rate * exponent)
                sums[0] += level
                sums[1] -= amount * exponent * level


@compiled
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


@compiled
def _at_key(at, key, end):  # type: ignore[no-untyped-def]
    """The same queries with keys from `key` on."""
    keys = min(KEYS, end - key)
    return Place(
        at.sequence, at.head, at.begin, at.query_begin, at.length, at.history, at.query, at.queries, key, keys
    )


@compiled
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
            result[:] = 0.0
            peak[:] = HIDDEN
            total[:] = 0.0
            for key in range(0, end, KEYS):
                at = _at_key(at, key, end)
                if not _meet(call, at):
                    continue
                multiply(k, head, at.begin + key, at.keys, columns, tile)
                buckets, start, stride = _buckets_of_tile(call, at, scratch)
                _add_bias(call, at, tile, buckets, start, stride)
                if call.activation == SOFTMAX:
                    hide(call, at, tile, HIDDEN)
                    softmax_step(tile, at.keys, peak, total, shrink, result)
                elif call.activation == SILU:
                    silu(tile, at.keys)
                hide(call, at, tile, np.float32(0.0))
                accumulate_columns(v, head, at.begin + key, at.keys, tile, result)
            if call.activation == SOFTMAX:
                result /= total
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
            dcolumns[:] = 0.0
            if call.activation == SOFTMAX:
                level[:] = 0.0
                mean_gradient[:] = 0.0
                for i in range(at.queries):
                    level[i] = normalizer[token + i, head]
                    mean_gradient[i] = np.sum(out[token + i, head] * out_gradient[token + i, head])
            for key in range(0, end, KEYS):
                at = _at_key(at, key, end)
                if not _meet(call, at):
                    continue
                multiply(k, head, at.begin + key, at.keys, columns, tile)
                multiply(v, head, at.begin + key, at.keys, dresult, dtile)
                buckets, start, stride = _buckets_of_tile(call, at, scratch)
                _add_bias(call, at, tile, buckets, start, stride)
                if call.activation == SOFTMAX:
                    softmax_with_slope(tile, at.keys, level, mean_gradient, dtile)
                elif call.activation == SILU:
                    silu_with_slope(tile, at.keys, dtile)
                hide(call, at, tile, np.float32(0.0))
                hide(call, at, dtile, np.float32(0.0))
                accumulate_rows(tile, dresult, head, at.begin + key, at.keys, dv)
                accumulate_rows(dtile, columns, head, at.begin + key, at.keys, dk)
                accumulate_columns(k, head, at.begin + key, at.keys, dtile, dcolumns)
                _add_bias_gradient(call, at, dtile, buckets, start, stride, dposition, dtime, ddecay)
            store_columns(dcolumns, head, token, at.queries, call.qk_scale, dq)
