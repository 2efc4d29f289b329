"""The kernels as differentiable functions: directly, and as an operator that `torch.compile` keeps whole.

Both do the same. The operator takes nothing but tensors and numbers, and so finds on the device, at each
call, what eager calls find once a batch: a compiled graph must not depend on the lengths of one batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention.inputs import AttentionInputs
from models.attention.triton import launch
from models.attention.triton.tiles import BLOCK, tile_list, tile_list_on_device
from models.attention.triton.times import find_times, times_of


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and both tables of the bias."""
    position = inputs.bias.position if inputs.bias else None
    time = inputs.bias.time if inputs.bias else None
    if torch.compiler.is_compiling():
        return _run_operator(inputs, position, time)
    return _Attention.apply(inputs.q, inputs.k, inputs.v, position, time, inputs)


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
        shapes = launch.choose_shapes(q, v, time is not None, inputs.sequences.max_length)
        relative_time = inputs.bias.relative_time if inputs.bias and time is not None else None
        ctx.save_for_backward(q, k, v, position, time)
        ctx.problem = launch.Problem(
            tiles={size: tile_list(inputs.sequences, size) for size in shapes.tiles()},
            position=position,
            time=time,
            times=times_of(relative_time) if relative_time else None,
            window=inputs.mask.window,
            qk_scale=inputs.qk_scale,
            output_scale=inputs.output_scale,
            shapes=shapes,
        )
        return launch.forward(ctx.problem, q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *_ = ctx.saved_tensors
        tables = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        return *_gradients(ctx.problem, q, k, v, given, tables), None


def _gradients(
    problem: launch.Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor, tables: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    given = _with_unit_stride(given)
    dq = launch.query_gradients(problem, q, k, v, given)
    dk, dv = launch.key_gradients(problem, q, k, v, given)
    dposition, dtime = launch.table_gradients(problem, q, k, v, given) if tables else (None, None)
    return dq, dk, dv, dposition, dtime


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """Heads' rows must be contiguous; tokens and heads may lie as they like."""
    return tensor if tensor.stride(2) == 1 else tensor.contiguous()


def _run_operator(inputs: AttentionInputs, position: Tensor | None, time: Tensor | None) -> Tensor:
    relative_time = inputs.bias.relative_time if inputs.bias and time is not None else None
    return silu_attention(
        inputs.q,
        inputs.k,
        inputs.v,
        position,
        time,
        relative_time.query_time if relative_time else None,
        relative_time.timestamp if relative_time else None,
        inputs.sequences.offsets,
        inputs.mask.window,
        inputs.qk_scale,
        inputs.output_scale,
    )


def _problem(
    q: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    window: int | None,
    qk_scale: float,
    output_scale: float,
) -> launch.Problem:
    """What the operator finds on the device."""
    tokens = q.shape[0]
    # The longest sequence is not known without waiting; a position table is as long at least.
    longest = tokens if position is None else position.shape[0]
    shapes = launch.choose_shapes(q, v, time is not None, longest)
    tiles = {size: tile_list_on_device(offsets, size, tokens) for size in {*shapes.tiles(), BLOCK}}
    times = None
    if query_time is not None and timestamp is not None:
        times = find_times(query_time, timestamp, tiles[BLOCK])
    return launch.Problem(tiles, position, time, times, window, qk_scale, output_scale, shapes)


@torch.library.custom_op("lrm_kit::silu_attention", mutates_args=())
def silu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    window: int | None,
    qk_scale: float,
    output_scale: float,
) -> Tensor:
    """`models.attention.attention` with `silu`, in tensors and numbers. [tokens, heads, v_dim]."""
    q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
    rest = (position, time, query_time, timestamp, offsets, window, qk_scale, output_scale)
    return launch.forward(_problem(q, v, *rest), q, k, v)


@torch.library.custom_op("lrm_kit::silu_attention_backward", mutates_args=())
def silu_attention_backward(
    given: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    window: int | None,
    qk_scale: float,
    output_scale: float,
) -> list[Tensor]:
    """Gradients of q, k and v, then of position and of time: empty tensors where there are none."""
    q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
    rest = (position, time, query_time, timestamp, offsets, window, qk_scale, output_scale)
    tables = position is not None or time is not None
    gradients = _gradients(_problem(q, v, *rest), q, k, v, given, tables)
    return [q.new_empty(0) if gradient is None else gradient for gradient in gradients]


@silu_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return v.new_empty(v.shape)


@silu_attention_backward.register_fake
def _(given: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> list[Tensor]:
    tables = [q.new_empty(0) if table is None else table.new_empty(table.shape) for table in rest[:2]]
    return [*(tensor.new_empty(tensor.shape) for tensor in (q, k, v)), *tables]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.window, ctx.qk_scale, ctx.output_scale = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, position, time, *rest = ctx.saved_tensors
    dq, dk, dv, dposition, dtime = silu_attention_backward(
        given, q, k, v, position, time, *rest, ctx.window, ctx.qk_scale, ctx.output_scale
    )
    tables = (None if position is None else dposition, None if time is None else dtime)
    return dq, dk, dv, *tables, None, None, None, None, None, None


silu_attention.register_autograd(_differentiate, setup_context=_save)
