"""The kernels as one differentiable function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.precompile import can_precompile, precompile
from models.history.inputs import HistoryInputs
from models.history.kernels.call import Call, Given

_precompiled: set[object] = set()
"""Kinds of calls whose kernels are compiled already, or could not be."""


def run(inputs: HistoryInputs) -> tuple[Tensor, Tensor]:
    """See `models.history.dispatch.history_masses`."""
    bias = inputs.bias
    masses: tuple[Tensor, Tensor] = _HistoryMasses.apply(
        inputs,
        *(inputs.query, inputs.key, bias.constant, bias.behavior, bias.latest, bias.closed),
        *(bias.time, bias.recency),
    )
    return masses


class _HistoryMasses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: HistoryInputs, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        given = Given(*tensors)  # type: ignore[arg-type]
        call = Call(inputs)
        masses = call.new(inputs.sequences.num_tokens), call.new(inputs.sequences.num_tokens)
        if any(ctx.needs_input_grad):
            _precompile(call, given, ctx.needs_input_grad[1:])
        call.forward(given, *masses)
        ctx.call = call
        ctx.save_for_backward(*given, *masses)
        return masses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_target: Tensor, grad_rest: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, on_target, on_rest = ctx.saved_tensors
        masses = {
            "on_target": on_target, "on_rest": on_rest, "grad_target": grad_target.contiguous(),
            "grad_rest": grad_rest.contiguous(),
        }  # fmt: skip
        return (None, *ctx.call.backward(Given(*tensors), masses, ctx.needs_input_grad[1:]))


def _precompile(call: Call, given: Given, wanted: tuple[bool, ...]) -> None:
    """Compile the kernels of forward and backward side by side, before the first of them is launched."""
    kind = (*call.kind, wanted)
    if kind in _precompiled or not can_precompile():
        return
    _precompiled.add(kind)
    mass = call.new(call.sequences.num_tokens)
    masses = dict.fromkeys(("on_target", "on_rest", "grad_target", "grad_rest"), mass)

    def launch_all() -> None:
        call.forward(given, mass, mass)
        call.backward(given, masses, wanted)

    precompile(launch_all)
