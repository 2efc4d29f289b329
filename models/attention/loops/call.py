"""What the loops are told: the call as arrays and numbers, where a tile is, and how large tiles are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import INSIDE, compiled_with

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]

QUERIES = 32
KEYS = 64
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
inner: Any = compiled_with(fastmath=True, error_model="numpy", **INSIDE)
inlined: Any = compiled_with(fastmath=True, error_model="numpy", inline="always")
