"""Compile the kernels of a forward and a backward pass side by side, before the first of them is launched."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from models.attention.silu import launch
from models.attention.silu.attention_call import AttentionCall
from models.gpu.precompile import can_precompile, precompile

_Maybe = TypeVar("_Maybe", Tensor, Tensor | None)


def precompile_kernels(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, tables: bool) -> None:
    """Once for each specialization; nothing runs on the device.

    Args:
        call: what is to be computed.
        q, k, v: the call's, with contiguous rows.
        tables: whether the tables of a bias want gradients.
    """
    ready = call.kernel_set
    if ready.precompiled or not can_precompile():
        return
    ready.precompiled = True
    q, k, v = _without_memory(q), _without_memory(k), _without_memory(v)
    call = call._replace(
        position=_without_memory(call.position),
        time=_without_memory(call.time),
        amount=_without_memory(call.amount),
        rate=_without_memory(call.rate),
    )

    def launch_all() -> None:
        out = launch.forward(call, q, k, v)
        shared = launch.backward(call, q, k, v, out, tables)
        launch.key_gradients(shared, k, v)
        launch.query_gradients(shared, q)
        launch.table_gradients(shared)

    precompile(launch_all)


def _without_memory(tensor: _Maybe) -> _Maybe:
    """Of the same shape, strides and type, on the meta device."""
    if tensor is None:
        return None
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
