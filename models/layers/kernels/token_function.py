"""From tensors to launches of the passes over the vectors of tokens, and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launch_rows import launch_rows
from models.gpu.row_sums import sum_rows
from models.layers.kernels.token_kernels import add_gradient_kernel, add_kernel, put_back_kernel


class AddRows(torch.autograd.Function):
    """See `models.layers.token_rows.add_rows`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        table: Tensor,
        place: Tensor,
        keep: Tensor | None,
        scale: float,
        keep_scale: float,
    ) -> Tensor:
        x, place = x.contiguous(), place.contiguous()
        out = torch.empty_like(x)
        ctx.save_for_backward(place, keep)
        ctx.numbers = {"scale": scale, "keep_scale": keep_scale}
        ctx.rows = len(table)
        given = {"x": x, "table": table.contiguous(), "place": place, "keep": keep, "out": out}
        launch_rows(add_kernel, len(x), x.shape[1], {**given, **ctx.numbers})
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        place, keep = ctx.saved_tensors
        given = given.contiguous()
        dx, dadded = torch.empty_like(given), torch.empty_like(given)
        results = {"given": given, "keep": keep, "dx": dx, "dadded": dadded}
        launch_rows(add_gradient_kernel, len(given), given.shape[1], {**results, **ctx.numbers})
        return dx, sum_rows(dadded, place, ctx.rows), None, None, None, None


class TakeRows(torch.autograd.Function):
    """See `models.layers.token_rows.take_rows`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, counts: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, counts)
        ctx.count = len(x)
        return x.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, None, None]:
        rows, counts = ctx.saved_tensors
        given, count = given.contiguous(), ctx.count
        # What does not count writes to a place of its own, after the last.
        place = rows if counts is None else torch.where(counts, rows, count)
        numbers = torch.arange(len(rows), device=rows.device)
        taken = rows.new_full((count + 1,), -1).scatter_(0, place, numbers)
        out = given.new_empty(count, given.shape[1])
        launch_rows(put_back_kernel, count, given.shape[1], {"given": given, "taken": taken, "out": out})
        return out, None, None
