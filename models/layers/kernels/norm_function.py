"""From tensors to launches, and the gradients: allocates results, chooses how many rows a program holds."""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.layers.kernels.norm_kernels import Sizes, norm_gradient_kernel, norm_kernel, norm_sum_kernel

_SUM_ROWS, _SUM_COLUMNS = 256, 8
_VECTOR_BYTES = 16
"""What a thread reads at a time at most."""


class Numbers(NamedTuple):
    """What is no tensor."""

    centered: bool
    eps: float
    keep_scale: float
    dtype: torch.dtype
    """Of the result."""
    silu: bool = False
    """Whether the factor is SiLU of the gate."""


class NormGateDropout(torch.autograd.Function):
    """See `models.layers.kernels.norm_gate_dropout`; of x [tokens, dim]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        gate: Tensor | None,
        keep: Tensor | None,
        numbers: Numbers,
    ) -> Tensor:
        x = with_contiguous_rows(x)
        gate = None if gate is None else with_contiguous_rows(gate)
        keep = None if keep is None else keep.contiguous()
        ctx.save_for_backward(x, weight, bias, gate, keep)
        ctx.numbers = numbers
        return _forward(x, weight, bias, gate, keep, numbers, added=None, total=None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gate, keep = ctx.saved_tensors
        dgate = None if gate is None else gate.new_empty(gate.shape)
        results = {"given": given.contiguous(), "dgate": dgate, "given_total": None, "dadded": None}
        dx, dweight, dbias = _backward(x, weight, bias, gate, keep, ctx.numbers, results)
        return dx, dweight, dbias, dgate, None, None


class AddAndNorm(torch.autograd.Function):
    """`x + added` and the norm of it, of [tokens, dim] both; the sum is of x's type."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, added: Tensor, weight: Tensor | None, bias: Tensor | None, numbers: Numbers
    ) -> tuple[Tensor, Tensor]:
        x, added = with_contiguous_rows(x), added.contiguous()
        total = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, added.dtype))
        out = _forward(x, weight, bias, None, None, numbers, added=added, total=total)
        ctx.save_for_backward(total, weight, bias)
        ctx.numbers, ctx.added = numbers, added.dtype
        return total, out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given_total: Tensor, given: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, bias = ctx.saved_tensors
        dadded = total.new_empty(total.shape, dtype=ctx.added)
        results = {
            "given": given.contiguous(), "given_total": given_total.contiguous(), "dadded": dadded,
            "dgate": None,
        }  # fmt: skip
        dx, dweight, dbias = _backward(total, weight, bias, None, None, ctx.numbers, results)
        return dx, dadded, dweight, dbias, None


def _backward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    keep: Tensor | None,
    numbers: Numbers,
    results: dict[str, Tensor | None],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias; `results` are those given, and room for others."""
    tokens, dim = x.shape
    dx = x.new_empty(tokens, dim)
    parts = (weight is not None) + (bias is not None)
    shape = cut(_width(dim), True, parts > 0)
    programs = -(-tokens // shape.tile)
    sums = None
    if parts:
        programs = min(programs, _programs_at_once(x.device, shape.warps))
        sums = x.new_empty((parts, programs, dim), dtype=torch.float32)
    if tokens:
        arguments = _arguments(shape, x, weight, bias, gate, keep, numbers) | results
        launch(norm_gradient_kernel, (programs, 1), shape, arguments | {"dx": dx, "sums": sums})
    dweight, dbias = (None, None) if weight is None or sums is None else _sum(sums, weight)
    return dx, dweight, dbias


def _forward(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    keep: Tensor | None,
    numbers: Numbers,
    *,
    added: Tensor | None,
    total: Tensor | None,
) -> Tensor:
    """The norm of x, or of `x + added`, which is written to `total`; with its factors."""
    tokens, dim = x.shape
    out = x.new_empty((tokens, dim), dtype=numbers.dtype)
    if tokens:
        shape = cut(_width(dim), False, False)
        arguments = _arguments(shape, x, weight, bias, gate, keep, numbers) | {
            "out": out, "added": added, "total": total,
        }  # fmt: skip
        launch(norm_kernel, (-(-tokens // shape.tile), 1), shape, arguments)
    return out


def _sum(sums: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of weight and bias of the sums that programs left, [1 or 2, programs, dim]."""
    parts, programs, dim = sums.shape
    out = weight.new_empty(parts, dim)
    arguments: dict[str, object] = {
        "sums": sums, "out": out, "num_blocks": programs,
        "DIM": dim, "ROWS": _SUM_ROWS, "COLUMNS": _SUM_COLUMNS,
    }  # fmt: skip
    launch(norm_sum_kernel, (-(-dim // _SUM_COLUMNS), parts), None, arguments)
    return out[0], out[1] if parts > 1 else None


def _arguments(
    shape: TileShape,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gate: Tensor | None,
    keep: Tensor | None,
    numbers: Numbers,
) -> dict[str, object]:
    """What both passes are given."""
    dim, x_stride, gate_stride = x.shape[1], x.stride(0), 0 if gate is None else gate.stride(0)
    size = x.element_size() if gate is None else max(x.element_size(), gate.element_size())
    return {
        "x": x, "weight": weight, "bias": bias, "gate": gate, "keep": keep, "tokens": x.shape[0],
        "eps": numbers.eps, "keep_scale": numbers.keep_scale,
        "SIZES": Sizes(
            X_STRIDE=x_stride, GATE_STRIDE=gate_stride, DIM=dim, WIDTH=_width(dim), ROWS=shape.tile,
            VECTOR=gcd(_VECTOR_BYTES // size, dim, x_stride, gate_stride), CENTERED=numbers.centered,
            SILU=numbers.silu,
        ),
    }  # fmt: skip


def _width(dim: int) -> int:
    """Up to a power of two."""
    return 1 << (dim - 1).bit_length()


@cache
def cut(width: int, backward: bool, summed: bool) -> TileShape:
    """How many rows of a width a program holds, and with how many warps.

    A row that lies within one warp needs no shared memory for its sums along; but where programs leave rows
    of sums behind (`summed`), they should be few.
    """
    warps = 8 if width > 2048 else 4 if summed or width <= 128 or width > 512 else 1
    numbers = 32 * warps * (8 if backward else 16)
    # To the interpreter, a program is as long as its operations are many, however large their tiles.
    rows = 64 if INTERPRETED else max(1, numbers // width)
    return TileShape(rows, rows, warps, 1)


@cache
def _programs_at_once(device: torch.device, warps: int) -> int:
    """As many as run side by side; on the CPU some, so that tests meet programs of several turns."""
    if device.type != "cuda":
        return 3
    return 16 // warps * torch.cuda.get_device_properties(device).multi_processor_count
