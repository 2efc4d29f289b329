"""From tensors to launches of the kernels of rows of length 1, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launch_rows import launch_rows
from models.gpu.launcher import with_contiguous_rows
from models.layers.kernels.unit_kernels import unit_gradient_kernel, unit_kernel


class UnitRows(torch.autograd.Function):
    """See `models.layers.unit.unit_rows`; of x [n, dim]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        x = with_contiguous_rows(x)
        rows, width = x.shape
        out = x.new_empty(rows, width, dtype=torch.float32)
        inverse = x.new_empty(rows, dtype=torch.float32)
        ctx.save_for_backward(out, inverse)
        ctx.eps, ctx.dtype = eps, x.dtype
        given = {"x": x, "out": out, "inverse": inverse, "eps": eps, "STRIDE": x.stride(0)}
        launch_rows(unit_kernel, rows, width, given)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None]:
        out, inverse = ctx.saved_tensors
        dx = torch.empty_like(out, dtype=ctx.dtype)
        arguments = {"out": out, "inverse": inverse, "given": given.contiguous(), "dx": dx, "eps": ctx.eps}
        launch_rows(unit_gradient_kernel, len(out), out.shape[1], arguments)
        return dx, None
