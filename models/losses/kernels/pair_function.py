"""From tensors to launches of the passes around the softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launch_rows import launch_rows
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape
from models.losses.columns import Columns
from models.losses.kernels.pair_kernels import (
    columns_kernel,
    narrow_kernel,
    pair_gradient_kernel,
    pair_kernel,
)

_BLOCK = 1024


class PairScores(torch.autograd.Function):
    """See `models.losses.kernels.pair_scores`."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, vectors: Tensor, scale: float) -> Tensor:
        query, vectors = query.contiguous(), vectors.contiguous()
        scores = query.new_empty(len(query))
        ctx.save_for_backward(query, vectors)
        ctx.scale = scale
        given = {"query": query, "vectors": vectors, "scores": scores, "scale": scale}
        launch_rows(pair_kernel, len(query), query.shape[1], given)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        query, vectors = ctx.saved_tensors
        dquery, dvectors = torch.empty_like(query), torch.empty_like(vectors)
        results = {"given": given.contiguous(), "dquery": dquery, "dvectors": dvectors}
        arguments = {"query": query, "vectors": vectors, "scale": ctx.scale, **results}
        launch_rows(pair_gradient_kernel, len(query), query.shape[1], arguments)
        return dquery, dvectors, None


def narrowed(
    x: Tensor,
    rows: int,
    width: int,
    dtype: torch.dtype,
    scale: float,
    place: Tensor | None = None,
    number: Tensor | None = None,
) -> Tensor:
    """[rows, width] `scale * x[place]` in half precision, with zeros after it.

    Args:
        x: [n, dim] float32.
        rows: of the result: as many as there are places, or more.
        width: of the result: a power of two from dim on.
        dtype: of the result.
        scale: a factor.
        place: int64 rows of x; None: all.
        number: [1] int32 of the places that matter; None: all.
    """
    x = x.contiguous()
    out = x.new_empty(rows, width, dtype=dtype)
    given = len(x if place is None else place)
    arguments = {"x": x, "place": place, "number": number, "out": out, "scale": scale, "given": given}
    launch_rows(narrow_kernel, rows, x.shape[1], {**arguments, "STRIDE": width}, width)
    return out


def padded_columns(columns: Columns, rows: int, scale: float) -> Columns:
    """The same with ranks, and biases times a scale, of so many columns: from `number` on, and past the last,
    of columns whose bias is minus infinity."""
    ranks, bias = (one.new_empty(rows) for one in (columns.ranks, columns.bias))
    arguments = {
        "ranks": columns.ranks, "bias": columns.bias, "number": columns.number, "out_ranks": ranks,
        "out_bias": bias, "rows": rows, "given": len(columns.ranks), "scale": scale, "BLOCK": _BLOCK,
    }  # fmt: skip
    launch(columns_kernel, (-(-rows // _BLOCK), 1), TileShape(_BLOCK, 1, 4, 1), arguments)
    return columns._replace(ranks=ranks, bias=bias)
