"""The loops, compiled for what attention gives them, which is always of the same types."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from models.attention.loops.bias import find_all_buckets
from models.attention.loops.call import SILU, BlockedCall
from models.attention.loops.passes import backward, forward

_WHOLE, _BYTES = np.empty(0, np.int64), np.empty(0, np.uint8)
_TABLE, _SUMS = np.empty((1, 0), np.float32), np.empty((1, 0))
BUCKET_ARGUMENTS = (_WHOLE, _WHOLE, _WHOLE, _WHOLE, _BYTES, _WHOLE)
_ROWS, _UNITS = np.empty((0, 1, 1), np.float32), np.empty((0, 2), np.int64)


def arguments() -> tuple[Any, ...]:
    """Those of `forward`, of the types that they have."""
    call = BlockedCall(
        offsets=_WHOLE,
        query_offsets=_WHOLE,
        history=_WHOLE,
        window=0,
        front=0,
        context=0,
        activation=SILU,
        qk_scale=np.float32(1.0),
        output_scale=np.float32(1.0),
        position=_TABLE,
        time=_TABLE,
        decay=_TABLE,
        power=False,
        query_time=_WHOLE,
        timestamp=_WHOLE,
        buckets=_BYTES,
        bucket_offsets=_WHOLE,
    )
    return call, _ROWS, _ROWS, _ROWS, _UNITS, _ROWS, _TABLE


def gradient_arguments() -> tuple[Any, ...]:
    """Those of `backward`."""
    return (*arguments(), _ROWS, _ROWS, _ROWS, _ROWS, _SUMS, _SUMS, _SUMS)


def compile_forward() -> None:
    forward.compile(tuple(map(numba.typeof, arguments())))


def compile_backward() -> None:
    """And what finds buckets."""
    find_all_buckets.compile(tuple(map(numba.typeof, BUCKET_ARGUMENTS)))
    backward.compile(tuple(map(numba.typeof, gradient_arguments())))


def compile_both() -> None:
    """In the order in which they are wanted."""
    compile_forward()
    compile_backward()
