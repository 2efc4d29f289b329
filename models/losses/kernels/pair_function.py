"""From tensors to launches of the passes around the softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.gpu.launch_rows import launch_rows
from models.losses.kernels.pair_kernels import narrow_kernel, pair_gradient_kernel, pair_kernel


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
    x: Tensor, width: int, dtype: torch.dtype, scale: float, place: Tensor | None, number: Tensor | None
) -> Tensor:
    """[n, width] `scale * x[place]` in half precision, with zeros after it.

    Args:
        x: [rows, dim] float32.
        width: of the result: a power of two from dim on.
        dtype: of the result.
        scale: a factor.
        place: [n] int64 rows of x; None: all.
        number: [1] int32 of the rows that matter; None: all.
    """
    x = x.contiguous()
    out = x.new_empty(len(x if place is None else place), width, dtype=dtype)
    arguments = {"x": x, "place": place, "number": number, "out": out, "scale": scale}
    launch_rows(narrow_kernel, len(out), x.shape[1], {**arguments, "STRIDE": width}, width)
    return out
