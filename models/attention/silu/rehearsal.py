"""Compile the kernels of a forward and a backward pass before they start, side by side.

As they come they would compile one after the other, those of backward only once forward has run. Most of the
work is done without Python's lock, by Triton's passes, LLVM, the assembler, and a C compiler.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor
from triton.runtime import driver

from models.attention.silu import launch
from models.attention.silu.problem import Problem
from models.attention.silu.start import put_off
from models.attention.silu.step import INTERPRETED

_Maybe = TypeVar("_Maybe", Tensor, Tensor | None)


def rehearse(problem: Problem, q: Tensor, k: Tensor, v: Tensor, tables: bool) -> None:
    """Once for each kind of calls; nothing runs on the device.

    What fails here is tried again, and fails again, when the kernel is to start.

    Args:
        problem: of the call.
        q, k, v: the call's, with contiguous rows.
        tables: whether the tables of a bias want gradients.
    """
    ready = problem.launchers
    if ready.rehearsed or INTERPRETED or torch.cuda.is_current_stream_capturing():
        return
    ready.rehearsed = True
    q, k, v = _blank(q), _blank(k), _blank(v)
    problem = problem._replace(
        position=_blank(problem.position),
        time=_blank(problem.time),
        amount=_blank(problem.amount),
        rate=_blank(problem.rate),
    )
    with put_off() as calls:
        given = launch.forward(problem, q, k, v)
        shared = launch.backward(problem, q, k, v, given, tables)
        launch.key_gradients(shared, k, v)
        launch.query_gradients(shared, q)
        launch.table_gradients(shared)
    _ = driver.active  # Made here, or each thread would make one.
    for call in calls:
        # A kernel's name in Triton's cache depends on which others were named before it: always the same.
        _ = call.launcher.kernel.cache_key
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for call in calls:
            threads.submit(call.compile)


def _blank(tensor: _Maybe) -> _Maybe:
    """Of the same shape, strides and type, without memory."""
    if tensor is None:
        return None
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
