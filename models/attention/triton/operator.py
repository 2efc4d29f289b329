"""The kernels as differentiable functions: directly, and as an operator that `torch.compile` keeps whole.

Both do the same. The operator takes nothing but tensors and numbers, and so finds on the device, at each
call, what eager calls find once a batch: a compiled graph must not depend on the lengths of one batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.attention.bias import RelativeBias, RelativeTime
from models.attention.decay import TimeDecay
from models.attention.inputs import AttentionInputs
from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.attention.triton import launch
from models.attention.triton.tiles import tile_list
from models.attention.triton.times import times_of


def run(inputs: AttentionInputs) -> Tensor:
    """Attention with gradients for q, k, v and all parts of the bias."""
    given = inputs.bias.tensors() if inputs.bias else (None,) * 4
    tables = tuple(table if table is None else table.contiguous() for table in given)
    if torch.compiler.is_compiling():
        return _run_operator(inputs, tables)
    return _Attention.apply(inputs.q, inputs.k, inputs.v, *tables, inputs)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        *tables, inputs = rest
        q, k, v = (_with_unit_stride(tensor) for tensor in (q, k, v))
        ctx.save_for_backward(q, k, v, *tables)
        ctx.problem = _problem_of(inputs, q, v, *tables)
        return launch.forward(ctx.problem, q, k, v)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *_ = ctx.saved_tensors
        tables = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        return *_gradients(ctx.problem, q, k, v, given, tables), None


def _problem_of(
    inputs: AttentionInputs,
    q: Tensor,
    v: Tensor,
    position: Tensor | None,
    time: Tensor | None,
    amount: Tensor | None,
    rate: Tensor | None,
) -> launch.Problem:
    mask, bias, sequences = inputs.mask, inputs.bias, inputs.sequences
    shapes = launch.choose_shapes(q, v, time is not None, sequences.max_length)
    plain = mask.is_plain and inputs.queries is None
    timed = time is not None or amount is not None
    return launch.Problem(
        tiles={size: tile_list(sequences, size) for size in shapes.tiles()},
        query_tiles={size: tile_list(sequences, size, inputs.queries) for size in shapes.tiles()},
        window=mask.window,
        front=mask.front,
        context=mask.context,
        rules=None if plain else _rules(mask.history(sequences), sequences.offsets, inputs.queries),
        position=position,
        time=time,
        amount=amount,
        rate=rate,
        power=bool(bias and bias.decay and bias.decay.kind == "power"),
        times=times_of(bias.relative_time) if timed and bias and bias.relative_time else None,
        identity=inputs.activation == "identity",
        qk_scale=inputs.qk_scale,
        output_scale=inputs.output_scale,
        shapes=shapes,
        padded=sequences.room is not None,
    )


def _rules(history: Tensor, offsets: Tensor, queries: Sequences | None) -> Tensor:
    """[3, sequences] int64, see `launch.Problem`."""
    if queries is None:
        return torch.stack([history, offsets[:-1], torch.zeros_like(history)])
    skip = offsets.diff() - queries.offsets.diff()
    return torch.stack([history, queries.offsets[:-1] - skip, skip])


def _gradients(
    problem: launch.Problem, q: Tensor, k: Tensor, v: Tensor, given: Tensor, tables: bool
) -> tuple[Tensor | None, ...]:
    """Of q, k, v, position, time, amount and rate."""
    given = _with_unit_stride(given)
    dq, damount, drate = launch.query_gradients(problem, q, k, v, given)
    dk, dv = launch.key_gradients(problem, q, k, v, given)
    dposition, dtime = launch.table_gradients(problem, q, k, v, given) if tables else (None, None)
    return dq, dk, dv, dposition, dtime, damount, drate


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """Heads' rows must be contiguous; tokens and heads may lie as they like."""
    return tensor if tensor.stride(2) == 1 else tensor.contiguous()


def _run_operator(inputs: AttentionInputs, tables: tuple[Tensor | None, ...]) -> Tensor:
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
) -> launch.Problem:
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
    return _problem_of(inputs, q, v, position, time, amount, rate)


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
    problem = _problem(q, k, v, *rest, context, power, identity, qk_scale, output_scale)
    return launch.forward(problem, q, k, v)


@torch.library.custom_op("lrm_kit::silu_attention_backward", mutates_args=())
def silu_attention_backward(
    given: Tensor,
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
    problem = _problem(q, k, v, *rest, context, power, identity, qk_scale, output_scale)
    tables = position is not None or time is not None
    gradients = _gradients(problem, q, k, v, given, tables)
    return [q.new_empty(0) if gradient is None else gradient for gradient in gradients]


@silu_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
    return v.new_empty((*q.shape[:2], v.shape[2]))


@silu_attention_backward.register_fake
def _(given: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> list[Tensor]:
    tables = [q.new_empty(0) if table is None else table.new_empty(table.shape) for table in rest[:4]]
    return [*(tensor.new_empty(tensor.shape) for tensor in (q, k, v)), *tables]


_TENSORS = 11
"""The operator's first arguments; numbers follow."""


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS])
    ctx.numbers = inputs[_TENSORS:]


def _differentiate(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    gradients = silu_attention_backward(given, *tensors, *ctx.numbers)
    found = [
        None if tensor is None else gradient for tensor, gradient in zip(tensors[:7], gradients, strict=True)
    ]
    return *found, *(None,) * (_TENSORS - len(found) + len(ctx.numbers))


silu_attention.register_autograd(_differentiate, setup_context=_save)
