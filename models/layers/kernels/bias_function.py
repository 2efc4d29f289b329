"""From tensors to launches of the sums over rows, and the gradient of a bias that is one."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.layers.kernels.bias_kernels import column_sums_kernel

_PROGRAMS = 3 if INTERPRETED else 528
"""Programs that share the rows: four for each of the processors of an H200."""
_NUMBERS = 4096
"""That a program, of 4 warps, reads at a time."""
_COLUMNS, _COLUMNS_OF_FEW = 1024, 32
"""At most, of the rows themselves and of the sums of programs: with few columns a program has few turns."""


class BiasGradient(torch.autograd.Function):
    """`out` as it is, to which a bias was added whose gradient comes from here."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = bias.dtype
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor]:
        return given, column_sums(given.reshape(-1, given.shape[-1])).to(ctx.dtype)


def column_sums(given: Tensor) -> Tensor:
    """[width] float32 sums over rows, [rows, width], in a fixed order."""
    return _sums(_sums(with_contiguous_rows(given), _PROGRAMS, _COLUMNS), 1, _COLUMNS_OF_FEW)[0]


def _sums(given: Tensor, programs: int, columns: int) -> Tensor:
    """[programs, width], of which each sums some rows, and some columns of them."""
    rows, width = given.shape
    dim = min(triton.next_power_of_2(width), columns)
    shape = TileShape(max(_NUMBERS // dim, 1), 1, 4, 1)
    sums = given.new_empty(programs, width, dtype=torch.float32)
    arguments = {
        "given": given, "sums": sums, "rows": rows, "each": -(-rows // programs),
        "STRIDE": given.stride(0), "WIDTH": width, "DIM": dim, "ROWS": shape.tile,
    }  # fmt: skip
    launch(column_sums_kernel, (programs, triton.cdiv(width, dim)), shape, arguments)
    return sums
