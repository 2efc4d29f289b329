"""Blocked attention on the CPU: memory linear in length, by recomputing scores tile by tile.

Work is cut into parts that depend on the batch alone, not on the number of threads, and sums over parts are
taken in order: results are the same bit for bit for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention import blocked_loops as loops
from models.attention.bias import RelativeTime
from models.attention.inputs import AttentionInputs
from models.attention.masks import Mask
from models.attention.sequences import Sequences

_MAX_PARTS = 32
_NO_WINDOW = 1 << 62
# Buckets of all pairs take a byte each. Up to this many they are found once a batch and shared by all layers
# and heads; beyond, memory must not grow with the square of the length, and each tile finds its own.
_MAX_CACHED_BUCKETS = 1 << 24
_NOTHING = np.empty(0, np.int64)

_cached_buckets: WeakKeyDictionary[RelativeTime, tuple[np.ndarray, np.ndarray]] = WeakKeyDictionary()


def unavailable() -> list[str]:
    """Numba, which compiles it, is always installed."""
    return []


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = []
    if inputs.q.device.type != "cpu":
        reasons.append(f"CPU only, not {inputs.q.device.type}")
    tensors = [inputs.q, inputs.k, inputs.v]
    if inputs.bias is not None:
        tensors += [table for table in (inputs.bias.position, inputs.bias.time) if table is not None]
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    if dtypes != {"float32"}:
        reasons.append(f"float32 only, not {', '.join(sorted(dtypes - {'float32'}))}")
    return reasons


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and both tables of the bias."""
    position = inputs.bias.position if inputs.bias else None
    time = inputs.bias.time if inputs.bias else None
    return _BlockedAttention.apply(inputs.q, inputs.k, inputs.v, position, time, inputs)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        position: Tensor | None,
        time: Tensor | None,
        inputs: AttentionInputs,
    ) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = torch.empty_like(v)
        normalizer = torch.empty(v.shape[:2] if inputs.activation == "softmax" else (0, 0))
        problem = _problem(inputs, position, time)
        arrays = [tensor.numpy() for tensor in (q, k, v)]
        parts = _parts(inputs.sequences.lengths, q.shape[1])
        _in_parallel(
            lambda units: loops.forward(problem, *arrays, units, out.numpy(), normalizer.numpy()), parts
        )
        ctx.save_for_backward(q, k, v, out, normalizer)
        # Not `inputs`, which holds q, k and v with their history.
        ctx.problem, ctx.parts = problem, parts
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, normalizer = (tensor.numpy() for tensor in ctx.saved_tensors)
        problem: loops.Problem = ctx.problem
        gradients = [np.zeros_like(array) for array in (q, k, v)]
        given = out_gradient.contiguous().numpy()

        def work(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            tables = np.zeros(len(problem.position)), np.zeros(len(problem.time))
            loops.backward(problem, q, k, v, units, out, normalizer, given, *gradients, *tables)
            return tables

        tables = _in_parallel(work, ctx.parts)
        dposition = sum((position for position, _ in tables), np.zeros(len(problem.position)))
        dtime = sum((time for _, time in tables), np.zeros(len(problem.time)))
        return (
            *map(torch.from_numpy, gradients),
            torch.from_numpy(dposition[loops.FRAME : -loops.FRAME]).float() if len(dposition) else None,
            torch.from_numpy(dtime).float() if len(dtime) else None,
            None,
        )


def _problem(inputs: AttentionInputs, position: Tensor | None, time: Tensor | None) -> loops.Problem:
    query_time = timestamp = bucket_offsets = _NOTHING
    buckets = np.empty(0, np.uint8)
    relative_time = inputs.bias.relative_time if inputs.bias else None
    if time is not None and relative_time is not None:
        query_time, timestamp = (
            np.ascontiguousarray(times) for times in (relative_time.query_time, relative_time.timestamp)
        )
        buckets, bucket_offsets = _all_buckets(relative_time)
    return loops.Problem(
        offsets=inputs.sequences.offsets.numpy(),
        window=_window(inputs.mask),
        softmax=inputs.activation == "softmax",
        qk_scale=np.float32(inputs.qk_scale),
        output_scale=np.float32(inputs.output_scale),
        position=_table(0) if position is None else np.pad(position.detach().numpy(), loops.FRAME),
        # A copy: the optimizer changes parameters in place, and backward may come after it.
        time=_table(0) if time is None else time.detach().numpy().copy(),
        query_time=query_time,
        timestamp=timestamp,
        buckets=buckets,
        bucket_offsets=bucket_offsets,
    )


def _table(size: int) -> np.ndarray:
    return np.zeros(size, np.float32)


def _window(mask: Mask) -> int:
    return _NO_WINDOW if mask.window is None else mask.window


def _all_buckets(relative_time: RelativeTime) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of all pairs and where each sequence's begin; empty where they would take too much memory."""
    if relative_time not in _cached_buckets:
        _cached_buckets[relative_time] = _find_all_buckets(relative_time)
    return _cached_buckets[relative_time]


def _find_all_buckets(relative_time: RelativeTime) -> tuple[np.ndarray, np.ndarray]:
    sequences: Sequences = relative_time.sequences
    ends = np.cumsum(np.square(np.array(sequences.lengths, np.int64)))
    pairs = int(ends[-1]) if len(ends) else 0
    if pairs > _MAX_CACHED_BUCKETS:
        return np.empty(0, np.uint8), _NOTHING
    starts = np.concatenate(([0], ends[:-1])).astype(np.int64) if len(ends) else _NOTHING
    # The last tile reads whole rows, past the end of the last sequence.
    buckets = np.zeros(pairs + loops.QUERIES, np.uint8)
    loops.find_all_buckets(
        sequences.offsets.numpy(),
        np.ascontiguousarray(relative_time.query_time),
        np.ascontiguousarray(relative_time.timestamp),
        buckets,
        starts,
    )
    return buckets, starts


@lru_cache(maxsize=16)
def _parts(lengths: tuple[int, ...], heads: int) -> tuple[np.ndarray, ...]:
    """Deal (sequence, head) pairs into parts of like cost, the longest first to the least loaded part.

    Returns:
        [units, 2] int64 arrays.
    """
    count = min(_MAX_PARTS, len(lengths) * heads)
    parts: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    loads = [0] * count
    filled = (number for number, length in enumerate(lengths) if length)
    for sequence in sorted(filled, key=lambda number: -lengths[number]):
        for head in range(heads):
            least = loads.index(min(loads))
            parts[least].append((sequence, head))
            loads[least] += lengths[sequence] * (lengths[sequence] + loops.QUERIES)
    return tuple(np.array(part, np.int64) for part in parts if part)


def _in_parallel(work: Callable[[np.ndarray], Any], parts: tuple[np.ndarray, ...]) -> list[Any]:
    """Do all parts in torch's number of threads; results in the order of the parts."""
    threads = min(torch.get_num_threads(), len(parts))
    if threads <= 1:
        return [work(part) for part in parts]
    return list(_pool(threads).map(work, parts))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="attention")


# Threads do not survive a fork; a child starts its own.
os.register_at_fork(after_in_child=_pool.cache_clear)
