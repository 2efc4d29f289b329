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

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention import loops
from models.attention.bias import RelativeTime
from models.attention.inputs import AttentionInputs
from models.attention.weak_cache import weakly_cached

_MAX_PARTS = 32
_ACTIVATIONS = {"silu": loops.SILU, "softmax": loops.SOFTMAX, "identity": loops.IDENTITY}
_NO_WINDOW = 1 << 62
# Buckets of all pairs take a byte each. Up to this many they are found once a batch and shared by all layers
# and heads; beyond, memory must not grow with the square of the length, and each tile finds its own.
_MAX_CACHED_BUCKETS = 1 << 24
_NOTHING = np.empty(0, np.int64)


def unavailable() -> list[str]:
    """Numba, which compiles it, is always installed."""
    return []


def reasons_against(inputs: AttentionInputs) -> list[str]:
    """Why it does not fit an input."""
    reasons = [*inputs.unread, *inputs.of_several]
    if inputs.q.device.type != "cpu":
        reasons.append(f"CPU only, not {inputs.q.device.type}")
    tables = inputs.bias.tensors() if inputs.bias else ()
    tensors = [tensor for tensor in (inputs.q, inputs.k, inputs.v, *tables) if tensor is not None]
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    if dtypes != {"float32"}:
        reasons.append(f"float32 only, not {', '.join(sorted(dtypes - {'float32'}))}")
    return reasons


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and all parts of the bias."""
    tables = inputs.bias.tensors() if inputs.bias else (None,) * 4
    return _BlockedAttention.apply(inputs.q, inputs.k, inputs.v, *tables, inputs)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *tables, inputs = rest
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = torch.empty((*q.shape[:2], v.shape[2]))
        normalizer = torch.empty(q.shape[:2] if inputs.activation == "softmax" else (0, 0))
        call = _blocked_call(inputs, *tables)
        arrays = [tensor.numpy() for tensor in (q, k, v)]
        parts = _parts(inputs.query_sequences.lengths, inputs.sequences.lengths, q.shape[1])
        _in_parallel(
            lambda units: loops.forward(call, *arrays, units, out.numpy(), normalizer.numpy()), parts
        )
        ctx.save_for_backward(q, k, v, out, normalizer)
        # Not `inputs`, which holds q, k and v with their history.
        ctx.call, ctx.parts = call, parts
        ctx.shapes = [None if table is None else table.shape for table in tables]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, normalizer = (tensor.numpy() for tensor in ctx.saved_tensors)
        call: loops.BlockedCall = ctx.call
        gradients = [np.zeros_like(array) for array in (q, k, v)]
        given = out_gradient.contiguous().numpy()
        tables = (call.position, call.time, call.decay)

        def work(units: np.ndarray) -> list[np.ndarray]:
            sums = [np.zeros(table.shape) for table in tables]
            loops.backward(call, q, k, v, units, out, normalizer, given, *gradients, *sums)
            return sums

        done = _in_parallel(work, ctx.parts)
        position, time, decay = (
            torch.from_numpy(sum((part[number] for part in done), np.zeros(table.shape))).float()
            for number, table in enumerate(tables)
        )
        amount, rate = decay.unbind(1) if ctx.shapes[2] else (decay, decay)
        found = (position[:, loops.FRAME : -loops.FRAME], time, amount, rate)
        shaped = [
            None if shape is None else part.reshape(shape)
            for part, shape in zip(found, ctx.shapes, strict=True)
        ]
        return *map(torch.from_numpy, gradients), *shaped, None


def _blocked_call(
    inputs: AttentionInputs,
    position: Tensor | None,
    time: Tensor | None,
    amount: Tensor | None,
    rate: Tensor | None,
) -> loops.BlockedCall:
    query_time = timestamp = bucket_offsets = _NOTHING
    buckets = np.empty(0, np.uint8)
    relative_time = inputs.bias.relative_time if inputs.bias else None
    if relative_time is not None:
        query_time, timestamp = (
            np.ascontiguousarray(times) for times in (relative_time.query_time, relative_time.timestamp)
        )
        if time is not None:
            buckets, bucket_offsets = _all_buckets(relative_time)
    mask = inputs.mask
    decay = None if amount is None or rate is None else torch.stack([amount, rate], dim=1)
    return loops.BlockedCall(
        offsets=inputs.sequences.offsets.numpy(),
        query_offsets=inputs.query_sequences.offsets.numpy(),
        history=mask.history(inputs.sequences).numpy(),
        window=_NO_WINDOW if mask.window is None else mask.window,
        front=mask.front,
        context=mask.context,
        activation=_ACTIVATIONS[inputs.activation],
        qk_scale=np.float32(inputs.qk_scale),
        output_scale=np.float32(inputs.output_scale),
        position=_table(position, frame=loops.FRAME),
        time=_table(time),
        decay=_table(decay),
        power=bool(inputs.bias and inputs.bias.decay and inputs.bias.decay.kind == "power"),
        query_time=query_time,
        timestamp=timestamp,
        buckets=buckets,
        bucket_offsets=bucket_offsets,
    )


def _table(table: Tensor | None, frame: int = 0) -> np.ndarray:
    """[1 or heads, size], a copy: the optimizer changes parameters in place, maybe before backward."""
    if table is None:
        return np.zeros((1, 0), np.float32)
    return np.pad(np.atleast_2d(table.detach().numpy()), ((0, 0), (frame, frame)))


@weakly_cached
def _all_buckets(relative_time: RelativeTime) -> tuple[np.ndarray, np.ndarray]:
    """Buckets of all pairs and where each sequence's begin; empty where they would take too much memory."""
    sequences = relative_time.sequences
    queries = relative_time.queries or sequences
    ends = np.cumsum(np.array(sequences.lengths, np.int64) * np.array(queries.lengths, np.int64))
    pairs = int(ends[-1]) if len(ends) else 0
    if pairs > _MAX_CACHED_BUCKETS:
        return np.empty(0, np.uint8), _NOTHING
    starts = np.concatenate(([0], ends[:-1])).astype(np.int64) if len(ends) else _NOTHING
    # The last tile reads whole rows, past the end of the last sequence.
    buckets = np.zeros(pairs + loops.QUERIES, np.uint8)
    loops.find_all_buckets(
        sequences.offsets.numpy(),
        queries.offsets.numpy(),
        np.ascontiguousarray(relative_time.query_time),
        np.ascontiguousarray(relative_time.timestamp),
        buckets,
        starts,
    )
    return buckets, starts


@lru_cache(maxsize=16)
def _parts(queries: tuple[int, ...], keys: tuple[int, ...], heads: int) -> tuple[np.ndarray, ...]:
    """Deal (sequence, head) pairs into parts of like cost, the longest first to the least loaded part.

    Returns:
        [units, 2] int64 arrays.
    """
    count = min(_MAX_PARTS, len(queries) * heads)
    parts: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    loads = [0] * count
    costs = [asked * (length + loops.QUERIES) for asked, length in zip(queries, keys, strict=True)]
    filled = (number for number, cost in enumerate(costs) if cost)
    for sequence in sorted(filled, key=lambda number: -costs[number]):
        for head in range(heads):
            least = loads.index(min(loads))
            parts[least].append((sequence, head))
            loads[least] += costs[sequence]
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
