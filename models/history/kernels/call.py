"""One call of the kernels: how each is cut, what it is given, and what it writes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from models.attention.silu.tiles import tile_list
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.history.inputs import HistoryInputs
from models.history.kernels.arguments import Constants
from models.history.kernels.forward import forward_kernel
from models.history.kernels.key_gradients import key_gradient_kernel
from models.history.kernels.prepared import (
    behaviors_of,
    columns_of,
    pack_masses,
    recency_buckets,
    tables_of,
)
from models.history.kernels.query_gradients import query_gradient_kernel
from models.history.kernels.tuning import tile_shapes

_SMALLEST_WIDTH = 16
"""Of an operand of the matrix units."""


class Given(NamedTuple):
    """What of the input has gradients."""

    query: Tensor | None
    key: Tensor | None
    constant: Tensor
    behavior: Tensor | None
    latest: Tensor | None
    closed: Tensor | None
    time: Tensor | None
    recency: Tensor | None


class Call:
    """What is to be computed: everything but queries, keys and masses."""

    def __init__(self, inputs: HistoryInputs) -> None:
        self.sequences, self.device = inputs.sequences, inputs.device
        query = inputs.query
        self.dim = 0 if query is None else query.shape[1]
        self.dtype = torch.bfloat16 if query is None else query.dtype
        self.constants = _constants(inputs, self.dim, self.dtype)
        self.shapes = tile_shapes(self.constants.WIDTH, self.dtype.itemsize)
        self.arguments = columns_of(inputs) | tables_of(inputs)
        self.buckets = None if inputs.bias.recency is None else recency_buckets(inputs)

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for calls that the same compiled kernels serve."""
        return self.device, self.dtype, self.constants

    def new(self, *shape: int) -> Tensor:
        """A mass of each event; minus infinity for those that belong to no sequence."""
        if self.sequences.room is None:
            return torch.empty(shape, dtype=torch.float32, device=self.device)
        return torch.full(shape, float("-inf"), dtype=torch.float32, device=self.device)

    def forward(self, given: Given, on_target: Tensor, on_rest: Tensor) -> None:
        """Fill in both masses."""
        shape = self.shapes.forward
        self._launch(forward_kernel, shape, (shape.tile, shape.stream), given, {
            "on_target": on_target, "on_rest": on_rest, "constant": given.constant,
        })  # fmt: skip

    def backward(
        self, given: Given, masses: dict[str, Tensor], wanted: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        """Gradients of all of `given` that are `wanted`; `masses` are both, and their gradients."""
        of_query, of_key, *of_tables = wanted
        scale = self._scale(masses)
        shared = {"masses": pack_masses(masses, given.constant, scale), "scale": scale}
        dquery = self._new_rows(given.query) if of_query else None
        dkey = self._new_rows(given.key) if of_key else None
        partials = self._partials(given[2:]) if any(of_tables) else None
        if self.shapes.tables is not None and dquery is not None and partials is not None:
            self._query_gradients(self.shapes.queries, given, shared, dquery, None)
            self._query_gradients(self.shapes.tables, given, shared, None, partials)
        elif dquery is not None or partials is not None:
            self._query_gradients(self.shapes.queries, given, shared, dquery, partials)
        if dkey is not None:
            shape = self.shapes.keys
            sizes = shape.stream, shape.tile
            self._launch(key_gradient_kernel, shape, sizes, given, {**shared, "dkey": dkey})
        return dquery, dkey, *_split(partials, given[2:], of_tables)

    def _query_gradients(
        self,
        shape: TileShape,
        given: Given,
        shared: dict[str, Any],
        dquery: Tensor | None,
        partials: Tensor | None,
    ) -> None:
        self._launch(query_gradient_kernel, shape, (shape.tile, shape.stream), given, {
            **shared, "dquery": dquery, "partials": partials, "buckets": self.buckets,
            "partial_stride": 0 if partials is None else partials.shape[1],
        })  # fmt: skip

    def _partials(self, tables: tuple[Tensor | None, ...]) -> Tensor:
        """Rows of partial sums, one a program."""
        shape = self.shapes.tables or self.shapes.queries
        programs = tile_list(self.sequences, shape.tile).shape[1]
        numbers = sum(table.numel() for table in tables if table is not None)
        # Zeros: tiles of length 0 write nothing.
        return torch.zeros(programs, numbers, device=self.device)

    def _launch(
        self, kernel: Any, shape: TileShape, sizes: tuple[int, int], given: Given, arguments: dict[str, Any]
    ) -> None:
        """Run a kernel, a program for each of its tiles; `sizes` are a tile's queries and past events."""
        tiles = tile_list(self.sequences, shape.tile)
        if not tiles.shape[1] or not self.sequences.num_tokens:
            return
        query, key = (None if rows is None else with_contiguous_rows(rows) for rows in given[:2])
        constants = self.constants._replace(
            QUERIES=sizes[0],
            KEYS=sizes[1],
            QUERY_STRIDE=0 if query is None else query.stride(0),
            KEY_STRIDE=0 if key is None else key.stride(0),
        )
        launch(kernel, (tiles.shape[1], 1), shape, {
            **self.arguments, **arguments, "query": query, "key": key, "tiles": tiles,
            "num_tiles": tiles.shape[1], "C": constants,
        })  # fmt: skip

    def _new_rows(self, like: Tensor | None) -> Tensor | None:
        if like is None:
            return None
        return like.new_empty(like.shape) if self.sequences.room is None else like.new_zeros(like.shape)

    def _scale(self, masses: dict[str, Tensor]) -> Tensor | None:
        """The largest given gradient: scores' gradients in units of it are no smaller than float16 holds."""
        if self.dtype != torch.float16:
            return None
        largest = [
            torch.where(masses[f"on_{name}"].isfinite(), masses[f"grad_{name}"], 0.0).abs().amax()
            for name in ("target", "rest")
        ]
        return torch.maximum(*largest).clamp(min=torch.finfo(torch.float32).tiny)


def _constants(inputs: HistoryInputs, dim: int, dtype: torch.dtype) -> Constants:
    """But for what differs from kernel to kernel."""
    bias, behaviors = inputs.bias, behaviors_of(inputs)
    times = 0 if bias.time is None else len(bias.time)
    recencies = 0 if bias.recency is None else len(bias.recency)
    # Three products of TF32 parts are float32 to its last bits or two, on the matrix units.
    precise = torch.get_float32_matmul_precision() == "highest"
    return Constants(
        QUERIES=0, KEYS=0, DIM=dim, WIDTH=_round_up(dim), QUERY_STRIDE=0, KEY_STRIDE=0,
        PRECISION="tf32x3" if precise else "tf32", HALVES=dtype.itemsize == 2 and not INTERPRETED,
        BEHAVIORS=behaviors, PLAIN=bias.behavior is not None, AGAIN=bias.latest is not None,
        CLOSED=bias.closed is not None, BEHAVIOR_WIDTH=_round_up(behaviors), TIMES=times,
        TIME_WIDTH=_round_up(times), RECENCIES=recencies, RECENCY_WIDTH=_round_up(recencies),
    )  # fmt: skip


def _round_up(size: int) -> int:
    return max(_SMALLEST_WIDTH, triton.next_power_of_2(size))


_ORDER = (4, 5, 1, 2, 3, 0)
"""In which a row of partial sums holds what `Given` has after queries and keys."""


def _split(
    partials: Tensor | None, tables: tuple[Tensor | None, ...], wanted: list[bool]
) -> list[Tensor | None]:
    """Gradients of tables from partial sums of them."""
    found: list[Tensor | None] = [None] * len(tables)
    if partials is None:
        return found
    sums, first = partials.sum(0), 0
    for place in _ORDER:
        table = tables[place]
        if table is not None:
            if wanted[place]:
                found[place] = sums[first : first + table.numel()].view(table.shape)
            first += table.numel()
    return found
