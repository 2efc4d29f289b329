"""Compile the kernels of a forward and a backward pass side by side, before the first of them is launched."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from models.attention.inputs import AttentionInputs
from models.attention.silu import launch
from models.attention.silu.attention_call import Tables, attention_call
from models.attention.silu.specialization import KernelSet
from models.gpu.precompile import can_precompile, precompile

_Maybe = TypeVar("_Maybe", Tensor, Tensor | None)


def precompile_kernels(
    ready: KernelSet,
    *,
    inputs: AttentionInputs,
    rows: tuple[Tensor, Tensor, Tensor],
    tables: Tables,
    wanted: bool,
) -> None:
    """Once for each specialization; nothing runs on the device.

    Args:
        ready: the kernels.
        inputs: of the call.
        rows: its q, k and v, with contiguous rows.
        tables: of its bias.
        wanted: whether these want gradients.
    """
    if not can_precompile():
        ready.precompiled = True
        return
    ready.precompiled = True
    q, k, v = (_without_memory(tensor) for tensor in rows)
    position, time, amount, rate = tables
    bias = inputs.bias
    if bias is not None and bias.relative_time is not None:
        # What is found of these times is kept, and here nothing is found.
        bias = replace(bias, relative_time=replace(bias.relative_time))
    inputs = replace(inputs, bias=bias)

    def launch_all() -> None:
        call = attention_call(inputs, *rows, tables)._replace(
            position=_without_memory(position),
            time=_without_memory(time),
            amount=_without_memory(amount),
            rate=_without_memory(rate),
        )
        out = launch.forward(call, q, k, v)
        shared = launch.backward(call, q, k, v, out, wanted)
        launch.key_gradients(shared, k, v)
        launch.query_gradients(shared, q)
        launch.table_gradients(shared)

    precompile(launch_all)


def _without_memory(tensor: _Maybe) -> _Maybe:
    """Of the same shape, strides and type, on the meta device."""
    if tensor is None:
        return None
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
