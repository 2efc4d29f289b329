"""The kernels as differentiable functions: directly, and as an operator that `torch.compile` keeps whole.

Both do the same. The operator takes nothing but tensors and numbers, and so finds on the device, at each
call, what eager calls find once a batch: a compiled graph must not depend on the lengths of one batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention.bias import RelativeBias, RelativeTime
from models.attention.decay import TimeDecay
from models.attention.inputs import AttentionInputs
from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.attention.silu import launch
from models.attention.silu.attention_call import NO_TABLES, AttentionCall, Tables, attention_call
from models.attention.silu.precompile import precompile_kernels


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and all parts of the bias.

    Raises:
        ValueError: tensors are on several devices.
    """
    tables = inputs.bias.tensors() if inputs.bias else NO_TABLES
    if torch.compiler.is_compiling():
        return _run_operator(inputs, tables)
    if not torch.is_grad_enabled():
        return _forward(inputs, tables)[0]
    # Those that are there: each argument of a function of autograd's costs something, None too.
    return _Attention.apply(inputs, inputs.q, inputs.k, inputs.v, *[t for t in tables if t is not None])


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: AttentionInputs, q: Tensor, k: Tensor, v: Tensor, *tables_given: Tensor
    ) -> Tensor:
        tables = inputs.bias.tensors() if inputs.bias else NO_TABLES
        ctx.tables = _want_gradients(tables)
        out, ctx.call, rows = _forward(inputs, tables, differentiated=any(ctx.needs_input_grad))
        ctx.save_for_backward(*rows, *tables_given)
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        # Whoever may differentiate twice is told that it cannot be done; to see to that takes long.
        return (_backward_once if torch.is_grad_enabled() else _backward)(ctx, dout)


def _backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    call, (q, k, v, *_) = ctx.call, ctx.saved_tensors
    dq, dk, dv, *of_bias = _gradients(call, q, k, v, dout, ctx.tables)
    there = [found for found, table in zip(of_bias, call.tables, strict=True) if table is not None]
    return None, dq, dk, dv, *there


_backward_once = once_differentiable(_backward)


def _forward(
    inputs: AttentionInputs, tables: Tables, differentiated: bool = False
) -> tuple[Tensor, AttentionCall, tuple[Tensor, Tensor, Tensor]]:
    """The result, and what the backward pass needs: the call, and q, k and v with contiguous rows."""
    rows = _with_unit_stride(inputs.q), _with_unit_stride(inputs.k), _with_unit_stride(inputs.v)
    precompile = None
    if differentiated:
        wanted = _want_gradients(tables)
        precompile = partial(precompile_kernels, inputs=inputs, rows=rows, tables=tables, wanted=wanted)
    call = attention_call(inputs, *rows, tables, precompile)
    return launch.forward(call, *rows), call, rows


def _want_gradients(tables: Tables) -> bool:
    """Whether the position or the time table wants gradients."""
    position, time, _, _ = tables
    return (position is not None and position.requires_grad) or (time is not None and time.requires_grad)


def _gradients(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, dout: Tensor, tables: bool
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, position, time, amount and rate."""
    shared = launch.backward(call, q, k, v, _with_unit_stride(dout), tables)
    dk, dv = launch.key_gradients(shared, k, v)
    dq, damount, drate = launch.query_gradients(shared, q)
    dposition, dtime = launch.table_gradients(shared)
    return dq, dk, dv, dposition, dtime, damount, drate


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """With contiguous rows of heads, and heads of a token nearer than tokens: otherwise their distance would
    change with the batch, and kernels would be looked for anew in each."""
    tokens, heads, unit = tensor.stride()
    return tensor if unit == 1 and heads <= tokens else tensor.contiguous()


def _run_operator(inputs: AttentionInputs, tables: Tables) -> Tensor:
    mask, bias = inputs.mask, inputs.bias
    times = bias.relative_time if bias else None
    return silu_attention(
        inputs.q,
        inputs.k,
        inputs.v,
        *tables,
        times.query_time if times else None,
        times.timestamp if times else None,
        inputs.sequences.offsets,
        mask.candidates,
        mask.window,
        mask.prefix,
        mask.context,
        bool(bias and bias.decay and bias.decay.kind == "power"),
        inputs.activation == "identity",
        inputs.qk_scale,
        inputs.output_scale,
    )


def _problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    amount: Tensor | None,
    rate: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    candidates: Tensor | None,
    window: int | None,
    prefix: int,
    context: int,
    power: bool,
    identity: bool,
    qk_scale: float,
    output_scale: float,
) -> AttentionCall:
    """What the operator finds on the device, as for any sequences whose lengths are not known on the host."""
    # The longest sequence is not known without waiting; a position table is as long at least.
    longest = q.shape[0] if position is None else position.shape[-1]
    sequences = Sequences.unread(offsets, tokens=q.shape[0], longest=longest)
    bias = times = None
    if query_time is not None and timestamp is not None:
        times = RelativeTime(query_time, timestamp, sequences)
    if position is not None or times is not None:
        decay = None
        if amount is not None and rate is not None:
            decay = TimeDecay(amount, rate, "power" if power else "exponential")
        bias = RelativeBias(position, time, times, decay)
    inputs = AttentionInputs(
        q,
        k,
        v,
        sequences,
        "identity" if identity else "silu",
        Mask(window, prefix, context, candidates),
        bias,
        qk_scale,
        output_scale,
    )
    return attention_call(inputs, q, k, v, (position, time, amount, rate))


@torch.library.custom_op("lrm_kit::silu_attention", mutates_args=())
def silu_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    amount: Tensor | None,
    rate: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    candidates: Tensor | None,
    window: int | None,
    prefix: int,
    context: int,
    power: bool,
    identity: bool,
    qk_scale: float,
    output_scale: float,
) -> Tensor:
    """`models.attention.attention` with `silu` or `identity`, in tensors and numbers."""
    q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
    rest = (position, time, amount, rate, query_time, timestamp, offsets, candidates, window, prefix)
    call = _problem(q, k, v, *rest, context, power, identity, qk_scale, output_scale)
    return launch.forward(call, q, k, v)


@torch.library.custom_op("lrm_kit::silu_attention_backward", mutates_args=())
def silu_attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    amount: Tensor | None,
    rate: Tensor | None,
    query_time: Tensor | None,
    timestamp: Tensor | None,
    offsets: Tensor,
    candidates: Tensor | None,
    window: int | None,
    prefix: int,
    context: int,
    power: bool,
    identity: bool,
    qk_scale: float,
    output_scale: float,
) -> list[Tensor]:
    """Gradients of q, k, v, and of the parts of the bias: empty tensors where there are none."""
    q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
    rest = (position, time, amount, rate, query_time, timestamp, offsets, candidates, window, prefix)
    call = _problem(q, k, v, *rest, context, power, identity, qk_scale, output_scale)
    tables = position is not None or time is not None
    gradients = _gradients(call, q, k, v, dout, tables)
    return [q.new_empty(0) if gradient is None else gradient for gradient in gradients]


@silu_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return v.new_empty((*q.shape[:2], v.shape[2]))


@silu_attention_backward.register_fake
def _(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> list[Tensor]:
    tables = [q.new_empty(0) if table is None else table.new_empty(table.shape) for table in rest[:4]]
    return [*(tensor.new_empty(tensor.shape) for tensor in (q, k, v)), *tables]


_TENSORS = 11
"""The operator's first arguments; numbers follow."""


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS])
    ctx.numbers = inputs[_TENSORS:]


def _differentiate(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    gradients = silu_attention_backward(dout, *tensors, *ctx.numbers)
    found = [
        None if tensor is None else gradient for tensor, gradient in zip(tensors[:7], gradients, strict=True)
    ]
    return *found, *(None,) * (_TENSORS - len(found) + len(ctx.numbers))


silu_attention.register_autograd(_differentiate, setup_context=_save)
