"""The kernels of shared columns as one differentiable function, and how each is cut."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape
from models.losses.columns import Columns
from models.losses.kernels.shared_kernels import shared_items_kernel, shared_loss_kernel, shared_sum_kernel

_LOSS = {256: TileShape(128, 64, 8, 2), 128: TileShape(128, 128, 8, 2)}
"""Positions that a program owns and columns that it takes at a time, by width, on Hopper."""
_ITEMS = {256: TileShape(128, 64, 8, 2), 128: TileShape(128, 128, 8, 2)}
"""Columns that a program owns, and positions that it takes at a time."""
_ELSEWHERE = {256: TileShape(64, 32, 4, 2), 128: TileShape(64, 64, 4, 2)}
"""Of both, in float32, and on cards with less shared memory and without warp group products."""
_SUMMED = 16
_PROGRAMS = 528
"""Programs that share the gradient of item vectors at least: four for each of the processors of an H200."""
_SMALLEST = 1e-30
"""Of gradients, whose quotients are numbers."""
_SCALE = 4096.0
"""See the kernels."""
_LARGEST = 65504.0
"""Of half precision: what is larger would be infinite."""


class SharedSoftmax(torch.autograd.Function):
    """See `models.losses.kernels.shared_softmax`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        positive: Tensor,
        vectors: Tensor,
        target: Tensor,
        columns: Columns,
        products: torch.dtype,
    ) -> Tensor:
        width = max(16, triton.next_power_of_2(query.shape[1]))
        positive, target = positive.contiguous(), target.to(torch.int32)
        asked = _narrowed(query, width, products)
        # Columns that do not exist have no place among the vectors.
        items = _narrowed(vectors.index_select(0, columns.place.clamp(max=len(vectors) - 1)), width, products)
        losses, others = torch.empty_like(positive), torch.empty_like(positive)
        grad_query = positive.new_empty(len(query), width)
        shape = _shape(_LOSS, width, asked)
        arguments = {
            "query": asked, "items": items, "ranks": columns.ranks, "bias": columns.bias,
            "count": columns.number, "target": target, "num_positions": len(query), "DIM": width,
        }  # fmt: skip
        own = {"positive": positive, "losses": losses, "others": others, "grad_query": grad_query}
        cut = {"ROWS": shape.tile, "COLUMNS": shape.stream}
        grid = (triton.cdiv(len(query), shape.tile), 1)
        launch(shared_loss_kernel, grid, shape, {**arguments, **own, **cut})
        ctx.save_for_backward(asked, items, positive, losses, others, grad_query, target, vectors)
        ctx.columns = columns
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        asked, items, positive, losses, others, grad_query, target, vectors = ctx.saved_tensors
        given = given.contiguous()
        dim = vectors.shape[1]
        largest = given.abs().amax().clamp(min=_SMALLEST)
        weight = given * (_SCALE / largest)
        grad_items = torch.zeros_like(vectors)
        _add_items(
            {
                "query": asked, "items": items, "ranks": ctx.columns.ranks, "bias": ctx.columns.bias,
                "count": ctx.columns.number, "level": positive + losses, "target": target, "weight": weight,
                "num_positions": len(asked), "DIM": asked.shape[1],
            },
            ctx.columns.place, largest / _SCALE, grad_items,
        )  # fmt: skip
        of_query = grad_query[:, :dim] * given[:, None]
        return of_query, -given * others, grad_items, None, None, None


def _add_items(arguments: dict[str, Any], place: Tensor, scale: Tensor, grad_items: Tensor) -> None:
    width, columns = arguments["DIM"], len(arguments["items"])
    shape = _shape(_ITEMS, width, arguments["items"])
    programs = max(triton.cdiv(columns, shape.tile), 2 if INTERPRETED else _PROGRAMS)
    pieces = grad_items.new_empty(programs, shape.tile, width)
    cut = {"ROWS": shape.stream, "COLUMNS": shape.tile, "PROGRAMS": programs, "pieces": pieces}
    launch(shared_items_kernel, (programs, 1), shape, {**arguments, **cut})
    summed = {
        "pieces": pieces, "count": arguments["count"], "place": place, "scale": scale, "DIM": width,
        "grad_items": grad_items, "WIDTH": grad_items.shape[1], "COLUMNS": shape.tile, "PROGRAMS": programs,
        "SUMMED": _SUMMED,
    }  # fmt: skip
    launch(shared_sum_kernel, (triton.cdiv(columns, _SUMMED), 1), TileShape(_SUMMED, 1, 4, 1), summed)


def _shape(shapes: dict[int, TileShape], width: int, like: Tensor) -> TileShape:
    large = like.dtype != torch.float32 and _is_hopper(like.device)
    return (shapes if large else _ELSEWHERE)[256 if width > 128 else 128]


@lru_cache
def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


def _narrowed(vectors: Tensor, width: int, products: torch.dtype) -> Tensor:
    """[n, width] as they are multiplied, with zeros after them."""
    missing = width - vectors.shape[1]
    vectors = F.pad(vectors, (0, missing)) if missing else vectors
    if products == torch.float16:
        vectors = vectors.clamp(-_LARGEST, _LARGEST)
    return vectors.to(products).contiguous()
