"""From a projection to its activated parts, and from their gradients back: allocates, launches."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.layers.kernels.parts_kernels import Parts, activate_kernel, join_kernel

_VECTOR_BYTES = 16
_NUMBERS = 2048
"""Of a program, of 4 warps."""
_MOST_COLUMNS = 1024


class ActivatedParts(torch.autograd.Function):
    """See `models.layers.kernels.activated_parts`."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        projected = with_contiguous_rows(projected)
        gate, activated = sum(widths[:-3]), sum(widths[-3:])
        tokens = projected.shape[0]
        out = projected.new_empty(tokens, activated)
        if tokens:
            sizes = _sizes(projected, widths, [0] * 4, activated)
            grid = -(-tokens // sizes.ROWS), -(-activated // sizes.COLUMNS)
            launch(activate_kernel, grid, _shape(sizes), {
                "projected": projected, "out": out, "tokens": tokens, "SIZES": sizes,
            })  # fmt: skip
        ctx.save_for_backward(projected)
        ctx.widths = widths
        parts = out.split(widths[-3:], dim=1)
        return (projected[:, :gate], *parts) if gate else parts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        (projected,) = ctx.saved_tensors
        rows = [with_contiguous_rows(one) for one in given]
        tokens, total = projected.shape[0], sum(ctx.widths)
        out = projected.new_empty(tokens, total)
        if tokens:
            strides = [*([] if len(rows) == 4 else [0]), *(one.stride(0) for one in rows)]
            sizes = _sizes(projected, ctx.widths, strides, max(ctx.widths))
            programs = sum(-(-width // sizes.COLUMNS) for width in ctx.widths)
            launch(join_kernel, (-(-tokens // sizes.ROWS), programs), _shape(sizes), {
                "projected": projected, "dgate": rows[0] if len(rows) == 4 else None,
                "dvalue": rows[-3], "dquery": rows[-2], "dkey": rows[-1],
                "out": out, "tokens": tokens, "SIZES": sizes,
            })  # fmt: skip
        return out, None


def _sizes(projected: Tensor, widths: tuple[int, ...], strides: list[int], width: int) -> Parts:
    """Of tiles that are no wider than a width rounded up; strides are those of the gradients."""
    columns = min(1 << (width - 1).bit_length(), _MOST_COLUMNS)
    vector = gcd(_VECTOR_BYTES // projected.element_size(), projected.stride(0), *widths, *strides)
    gate = widths[0] if len(widths) == 4 else 0
    return Parts(
        projected.stride(0), gate, *widths[-3:], *strides, max(_NUMBERS // columns, 1), columns, vector
    )  # type: ignore[call-arg]


def _shape(sizes: Parts) -> TileShape:
    return TileShape(sizes.ROWS, sizes.COLUMNS, 4, 1)
