"""The kernels as one differentiable function, and how each is cut."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.losses.kernels.scores_kernels import (
    further_pieces_kernel,
    query_gradient_kernel,
    scores_kernel,
    table_gradient_kernel,
)

_LANES = 8
"""Threads that read a row side by side for a score: few, since they add up their sums by shuffles."""
_SCORED = 128
"""Scores that a program works out at most."""
_SUMMED = TileShape(tile=1, stream=32, warps=1, stages=1)
"""Programs that add rows up: a warp, of which each thread finds the place of one row and its weight."""
_COLUMNS = 128
"""Columns that such a program adds up at most."""
_BLOCK = 128
"""Sorted draws that one program adds up at most, so that popular rows are shared out."""


class ScoresOfRows(torch.autograd.Function):
    """See `models.losses.kernels.scores_of_rows`."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        query, table, rows = with_contiguous_rows(query), with_contiguous_rows(table), rows.contiguous()
        ctx.save_for_backward(query, table, rows)
        scores = query.new_empty(rows.shape, dtype=torch.promote_types(query.dtype, table.dtype))
        if rows.numel():
            count, dim = rows.shape[1], query.shape[1]
            columns = min(_LANES * _vector(table), triton.next_power_of_2(dim))
            draws = min(_SCORED, triton.next_power_of_2(count))
            shape = TileShape(tile=1, stream=draws, warps=max(1, draws // 32), stages=1)
            sizes = {"COUNT": count, "DIM": dim, "DRAWS": shape.stream, "COLUMNS": columns}
            strides = {"QUERY_STRIDE": query.stride(0), "TABLE_STRIDE": table.stride(0)}
            tensors = {"query": query, "table": table, "rows": rows, "scores": scores}
            grid = (len(rows), triton.cdiv(count, shape.stream))
            launch(scores_kernel, grid, shape, {**tensors, **sizes, **strides})
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        query, table, rows = ctx.saved_tensors
        grad = grad.contiguous()
        of_query, of_table, _ = ctx.needs_input_grad
        return (
            _query_gradient(grad, query, table, rows) if of_query else None,
            _table_gradient(grad, query, table, rows) if of_table else None,
            None,
        )


def _query_gradient(grad: Tensor, query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """[positions, dim]: rows summed by position, weighted by `grad`."""
    if not rows.numel():
        return torch.zeros_like(query)
    result = query.new_empty(query.shape)
    columns = _columns(query)
    sizes = {"COUNT": rows.shape[1], "DIM": query.shape[1], "DRAWS": _SUMMED.stream, "COLUMNS": columns}
    tensors = {"grad": grad, "table": table, "rows": rows, "grad_query": result}
    grid = (len(rows), triton.cdiv(query.shape[1], columns))
    launch(query_gradient_kernel, grid, _SUMMED, {**tensors, **sizes, "TABLE_STRIDE": table.stride(0)})
    return result


def _table_gradient(grad: Tensor, query: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """[items, dim]: queries summed by row that they drew, weighted by `grad`.

    Draws are sorted by row, those of a row by position, and added up in that order: no atomics.
    """
    if not rows.numel():
        return torch.zeros_like(table)
    num_items, dim = table.shape
    row_of, order = rows.flatten().to(_key_type(num_items)).sort(stable=True)
    bounds = torch.arange(num_items + 1, dtype=row_of.dtype, device=rows.device)
    starts = torch.searchsorted(row_of, bounds, out_int32=True)  # [items + 1]
    columns = _columns(query)
    num_further = triton.cdiv(rows.numel(), _BLOCK) - 1
    pieces = grad.new_empty(num_further, dim, dtype=torch.float32)
    result = table.new_empty(table.shape)
    tensors = {"order": order, "starts": starts, "grad": grad, "query": query, "pieces": pieces}
    sizes = {"COUNT": rows.shape[1], "DIM": dim, "QUERY_STRIDE": query.stride(0)}
    cut = {"DRAWS": _SUMMED.stream, "COLUMNS": columns, "BLOCK": _BLOCK}
    arguments = {**tensors, **sizes, **cut}
    across = triton.cdiv(dim, columns)
    if num_further:
        launch(further_pieces_kernel, (num_further, across), _SUMMED, {**arguments, "row_of": row_of})
    launch(table_gradient_kernel, (num_items, across), _SUMMED, {**arguments, "grad_table": result})
    return result


def _columns(vectors: Tensor) -> int:
    """Columns that a program adds up."""
    return min(triton.next_power_of_2(vectors.shape[1]), _COLUMNS)


def _vector(vectors: Tensor) -> int:
    """Numbers next to each other, 16 bytes at most, that one read of any row may take."""
    widest = 16 // vectors.element_size()
    return min(widest, *(number & -number or widest for number in (vectors.shape[1], vectors.stride(0))))


def _key_type(num_items: int) -> torch.dtype:
    """The smallest integers that hold 0 to `num_items`: sorting takes as many passes as they have bytes."""
    types = (torch.int16, torch.int32, torch.int64)
    return next(dtype for dtype in types if num_items <= torch.iinfo(dtype).max)
