"""The relative bias of a tile, and its gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.attention.buckets import BUCKET_STARTS
from models.attention.loops.activations import exp32
from models.attention.loops.call import FRAME, QUERIES, Int64Array, compiled, inner
from models.attention.loops.visibility import keeps_distance, logical_position


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


@inner
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


@inner
def buckets_of_tile(call, at, scratch):  # type: ignore[no-untyped-def]
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


@inner
def _row(table, head):  # type: ignore[no-untyped-def]
    """The row of a table that a head uses."""
    return head if table.shape[0] > 1 else 0


@inner
def add_bias(call, at, tile, buckets, start, stride):  # type: ignore[no-untyped-def]
    """tile[j, i] += position[p(i) - p(j)] + time[bucket] + decay."""
    if call.position.shape[1] > 0:
        table = call.position[_row(call.position, at.head)]
        if keeps_distance(call, at):
            for j in range(at.keys):
                place = FRAME + at.query - at.key - j
                for i in range(QUERIES):
                    tile[j, i] += table[place + i]
        else:
            for j in range(at.keys):
                key_position = logical_position(call, at.history, at.key + j)
                for i in range(QUERIES):
                    apart = logical_position(call, at.history, at.query + i) - key_position
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


@inner
def _exponent(call, at, i, j):  # type: ignore[no-untyped-def]
    """What the rate of a decay is multiplied by: the time difference of a pair, or its logarithm."""
    query_time = call.query_time[at.query_begin + at.query + i]
    apart = np.float32(abs(query_time - call.timestamp[at.begin + at.key + j]))
    return np.log(np.float32(1.0) + apart) if call.power else apart


@inner
def add_bias_gradient(call, at, gradient, buckets, start, stride, position, time, decay):  # type: ignore[no-untyped-def]
    """The counterpart of `add_bias`: sums of the score gradient, in float64 since they are long."""
    if position.shape[1] > 0:
        sums = position[_row(position, at.head)]
        if keeps_distance(call, at):
            for j in range(at.keys):
                place = FRAME + at.query - at.key - j
                for i in range(QUERIES):
                    sums[place + i] += gradient[j, i]
        else:
            for j in range(at.keys):
                key_position = logical_position(call, at.history, at.key + j)
                for i in range(QUERIES):
                    apart = logical_position(call, at.history, at.query + i) - key_position
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
