"""The kernels as differentiable functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention.inputs import AttentionInputs
from models.attention.triton import launch
from models.attention.triton.tiles import tile_list
from models.attention.triton.times import times_of


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and both tables of the bias."""
    bias = inputs.bias
    position = bias.position if bias else None
    time = bias.time if bias else None
    return _Attention.apply(inputs.q, inputs.k, inputs.v, position, time, inputs)


def _problem(inputs: AttentionInputs, position: Tensor | None, time: Tensor | None) -> launch.Problem:
    shapes = launch.choose_shapes(inputs.q, inputs.v, inputs.sequences.max_length)
    sizes = {shape.tile for shape in (shapes.forward, shapes.keys, shapes.queries, shapes.diagonals)}
    relative_time = inputs.bias.relative_time if inputs.bias and time is not None else None
    return launch.Problem(
        tiles={size: tile_list(inputs.sequences, size) for size in sizes},
        position=position,
        time=time,
        times=times_of(relative_time) if relative_time else None,
        window=inputs.mask.window,
        qk_scale=inputs.qk_scale,
        output_scale=inputs.output_scale,
        shapes=shapes,
    )


class _Attention(torch.autograd.Function):
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
        q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
        problem = _problem(inputs, position, time)
        ctx.save_for_backward(q, k, v, position, time)
        ctx.problem = problem
        return launch.forward(problem, q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *_ = ctx.saved_tensors
        given, problem = _with_unit_stride(given), ctx.problem
        dq = launch.query_gradients(problem, q, k, v, given)
        dk, dv = launch.key_gradients(problem, q, k, v, given)
        dposition = dtime = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            dposition, dtime = launch.table_gradients(problem, q, k, v, given)
        return dq, dk, dv, dposition, dtime, None


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """Heads' rows must be contiguous; tokens and heads may lie as they like."""
    return tensor if tensor.stride(2) == 1 else tensor.contiguous()
