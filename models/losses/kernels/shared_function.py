"""The kernels of shared columns as one differentiable function, and how each is cut."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch
from models.gpu.precompile import can_precompile, precompile
from models.gpu.tile_shape import TileShape
from models.losses.columns import Columns
from models.losses.kernels.pair_function import narrowed, padded_columns
from models.losses.kernels.shared_kernels import (
    LOG2_E,
    LossCut,
    shared_items_kernel,
    shared_loss_kernel,
    shared_sum_kernel,
)

_LOSS = {256: TileShape(64, 64, 4, 2), 128: TileShape(128, 64, 8, 3)}
"""Positions that a program owns and columns that it takes at a time, by width, on Hopper."""
_ITEMS = {256: TileShape(128, 64, 8, 3), 128: TileShape(128, 64, 8, 3)}
"""Columns that a program owns, and positions that it takes at a time."""
_ELSEWHERE = {256: TileShape(64, 32, 4, 2), 128: TileShape(64, 64, 4, 2)}
"""Of both, in float32, and on cards with less shared memory and without warp group products."""
_AHEAD = _LAZY = True
_SUMMED = 16
_PROGRAMS = 2 if INTERPRETED else 528
"""Programs that share the gradient of item vectors at least: four for each of the processors of an H200."""
_SMALLEST = 1e-30
"""Of gradients, whose quotients are numbers."""
_SCALE = 4096.0
"""See the kernels."""
_TILE = 128
"""No tile has more rows."""
_precompiled: set[object] = set()
"""Kinds of calls whose kernels are compiled already, or could not be."""


class _Given(NamedTuple):
    """What both passes read, with room for whole tiles."""

    query: Tensor  # [positions, width], as it is multiplied
    items: Tensor  # [n, width], likewise
    target: Tensor  # [positions] int32
    columns: Columns  # with a tile more of ranks and biases, which are times `LOG2_E`

    def arguments(self, positions: int) -> dict[str, Any]:
        return {
            "query": self.query, "items": self.items, "ranks": self.columns.ranks, "bias": self.columns.bias,
            "count": self.columns.number, "target": self.target, "num_positions": positions,
            "DIM": self.query.shape[1],
        }  # fmt: skip


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
        scale: float,
    ) -> Tensor:
        width = max(16, triton.next_power_of_2(query.shape[1]))
        given = _Given(
            _narrowed(query, width, products, scale * LOG2_E),
            _narrowed(vectors, width, products, 1.0, columns),
            _padded(target.to(torch.int32), -2),
            padded_columns(columns, _whole_tiles(len(vectors)) + _TILE, LOG2_E),
        )
        if any(ctx.needs_input_grad):
            _precompile(given, vectors)
        positive = positive.contiguous()
        found = _launch_loss(given, positive)
        ctx.save_for_backward(vectors, *found[1:], *given[:3])
        ctx.columns, ctx.scale = given.columns, scale
        return found[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        vectors, levels, others, grad_query, query, items, target = ctx.saved_tensors
        grad = grad.contiguous()
        largest = grad.abs().amax().clamp(min=_SMALLEST)
        weight = _padded(grad * (_SCALE / largest), 0.0)
        grad_items = torch.zeros_like(vectors)
        given = _Given(query, items, target, ctx.columns)
        # Queries that are multiplied are times the base of scores, too.
        _launch_items(given, len(grad), levels, weight, largest / (_SCALE * LOG2_E), grad_items)
        of_query = grad_query[:, : vectors.shape[1]] * (grad * ctx.scale)[:, None]
        return of_query, -grad * others, grad_items, None, None, None, None


def _launch_loss(given: _Given, positive: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses, logarithms to base 2 of sums of exponentials, the share of all columns, and the gradient of the
    query, of each position."""
    losses, others = torch.empty_like(positive), torch.empty_like(positive)
    levels = positive.new_empty(len(given.query))
    grad_query = positive.new_empty(len(positive), given.query.shape[1])
    shape = _shape(_LOSS, given.query)
    own = {
        "positive": positive, "losses": losses, "levels": levels, "others": others, "grad_query": grad_query,
    }  # fmt: skip
    cut = {"CUT": LossCut(shape.tile, shape.stream, AHEAD=_AHEAD, LAZY=_LAZY)}
    grid = (triton.cdiv(len(positive), shape.tile), 1)
    launch(shared_loss_kernel, grid, shape, {**given.arguments(len(positive)), **own, **cut})
    return losses, levels, others, grad_query


def _launch_items(
    given: _Given, positions: int, level: Tensor, weight: Tensor, scale: Tensor, grad_items: Tensor
) -> None:
    """Write the gradient of the item vectors, of those that are columns."""
    shape, (columns, width) = _shape(_ITEMS, given.items), given.items.shape
    programs = max(triton.cdiv(columns, shape.tile), _PROGRAMS)
    pieces = level.new_empty(programs, shape.tile, width)
    own = {"level": level, "weight": weight, "pieces": pieces}
    cut = {"ROWS": shape.stream, "COLUMNS": shape.tile, "PROGRAMS": programs}
    launch(shared_items_kernel, (programs, 1), shape, {**given.arguments(positions), **own, **cut})
    summed = {
        "pieces": pieces, "count": given.columns.number, "place": given.columns.place, "scale": scale,
        "grad_items": grad_items, "DIM": width, "WIDTH": grad_items.shape[1], "COLUMNS": shape.tile,
        "PROGRAMS": programs, "SUMMED": _SUMMED,
    }  # fmt: skip
    launch(shared_sum_kernel, (triton.cdiv(columns, _SUMMED), 1), TileShape(_SUMMED, 1, 4, 1), summed)


def _precompile(given: _Given, vectors: Tensor) -> None:
    """Compile the kernels of forward and backward side by side, before the first of them is launched."""
    kind = (given.query.shape[1], vectors.shape[1], given.query.dtype, vectors.device)
    if kind in _precompiled or not can_precompile():
        return
    _precompiled.add(kind)
    of_each = vectors.new_empty(len(given.query))

    def launch_all() -> None:
        _launch_loss(given, of_each)
        _launch_items(given, len(of_each), of_each, of_each, of_each[0], torch.empty_like(vectors))

    precompile(launch_all)


def _shape(shapes: dict[int, TileShape], vectors: Tensor) -> TileShape:
    large = vectors.dtype != torch.float32 and _is_hopper(vectors.device)
    return (shapes if large else _ELSEWHERE)[256 if vectors.shape[1] > 128 else 128]


@lru_cache
def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9


def _narrowed(
    vectors: Tensor, width: int, products: torch.dtype, scale: float, columns: Columns | None = None
) -> Tensor:
    """[whole tiles, width] as they are multiplied, with zeros after them.

    Args:
        vectors: [rows, dim] float32.
        width: a power of two.
        products: type of what is multiplied.
        scale: a factor.
        columns: whose vectors; None: all rows. Of places without a column any numbers may come.
    """
    place, number = (None, None) if columns is None else (columns.place, columns.number)
    rows = _whole_tiles(len(vectors))
    if products == torch.float16:
        return narrowed(vectors, rows, width, products, scale, place, number)
    missing = rows - len(vectors)
    if place is not None:
        # Columns that do not exist have no place among the vectors.
        vectors = vectors.index_select(0, place.clamp(max=len(vectors) - 1))
    vectors = F.pad(vectors * scale, (0, width - vectors.shape[1], 0, missing))
    return vectors.to(products)


def _whole_tiles(rows: int) -> int:
    return -(-rows // _TILE) * _TILE


def _padded(of_each: Tensor, value: float) -> Tensor:
    """With a value for each row up to a whole tile."""
    return F.pad(of_each, (0, _whole_tiles(len(of_each)) - len(of_each)), value=value)
