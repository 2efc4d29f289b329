"""One call of the kernels: what they are given, what they write, and how each is cut."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from models.attention.silu.tiles import BLOCK, LARGEST_TILE, tile_list
from models.attention.silu.times import bucket_boundaries, find_times
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch, with_contiguous_rows
from models.gpu.tile_shape import TileShape
from models.history.inputs import HistoryInputs
from models.history.kernels.arguments import BEFORE, Constants
from models.history.kernels.forward import forward_kernel
from models.history.kernels.key_gradients import key_gradient_kernel
from models.history.kernels.query_gradients import query_gradient_kernel
from models.history.kernels.tuning import tile_shapes
from models.history.recency import recency_bucket

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
    """What the kernels are given alike: all but queries, keys and masses."""

    def __init__(self, inputs: HistoryInputs, given: Given) -> None:
        self.sequences = inputs.sequences
        self.device = inputs.device
        dim, dtype = (0, torch.bfloat16) if given.query is None else (given.query.shape[1], given.query.dtype)
        self.dim, self.dtype = dim, dtype
        self.width = _round_up(dim)
        self.shapes = tile_shapes(self.width, dtype.itemsize)
        precise = torch.get_float32_matmul_precision() == "highest"
        # Three products of TF32 parts are float32 to its last bits or two, on the matrix units.
        self.precision = "tf32x3" if precise else "tf32"
        self.behaviors = next(
            (len(table) for table in (given.behavior, given.latest, given.closed) if table is not None), 0
        )
        self.has_plain = given.behavior is not None
        self.times = 0 if given.time is None else len(given.time)
        self.recencies = 0 if given.recency is None else len(given.recency)
        self.arguments = self._columns(inputs) | self._tables(inputs)

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for calls that the same compiled kernels serve."""
        absent = (name for name, argument in self.arguments.items() if argument is None)
        return self.device, self.dtype, self.dim, self.precision, self.behaviors, self.has_plain, *absent

    def _columns(self, inputs: HistoryInputs) -> dict[str, object]:
        columns, bias = inputs.columns, inputs.bias
        given: dict[str, Tensor | None] = dict.fromkeys(
            ("behavior", "wanted", "timestamp", "query_time", "again", "closed", "seconds", "bounds")
        )
        given |= {"item": columns.item, "target": columns.target}
        if self.behaviors:
            given |= {"behavior": columns.behavior, "wanted": columns.wanted}
            given["again"] = None if bias.latest is None else columns.again
            given["closed"] = None if bias.closed is None else columns.closed
        numbers = {"num_events": inputs.sequences.num_tokens, "num_blocks": 0}
        if self.times:
            times = find_times(columns.query_time, columns.timestamp, tile_list(inputs.sequences, BLOCK))
            given |= {"timestamp": times.timestamp, "query_time": times.query_time}
            given |= {"seconds": times.seconds, "bounds": times.bounds}
            numbers["num_blocks"] = times.bounds.shape[1]
        return numbers | {name: None if each is None else each.contiguous() for name, each in given.items()}

    def _tables(self, inputs: HistoryInputs) -> dict[str, object]:
        bias = inputs.bias
        tables: dict[str, Tensor | None] = dict.fromkeys(
            ("states", "time", "recency", "boundaries", "wide_boundaries", "buckets")
        )
        tables |= {"constant": bias.constant, "time": bias.time}
        if self.behaviors:
            switched = bias.latest is not None or bias.closed is not None
            tables["states"] = bias.states if switched else bias.behavior
        if self.times:
            tables["boundaries"], tables["wide_boundaries"] = bucket_boundaries(self.device)
        if bias.recency is not None:
            # Not one for each length that a batch may have.
            distances = _round_up(self.sequences.max_length + LARGEST_TILE)
            tables["buckets"] = buckets = _buckets_of_distances(distances, self.device)
            tables["recency"] = bias.recency.index_select(0, buckets)
        return {
            name: None if table is None else table.detach().contiguous() for name, table in tables.items()
        }

    def new(self, *shape: int) -> Tensor:
        """A mass of each event; minus infinity for those that belong to no sequence."""
        if self.sequences.room is None:
            return torch.empty(shape, dtype=torch.float32, device=self.device)
        return torch.full(shape, float("-inf"), dtype=torch.float32, device=self.device)

    def forward(self, given: Given, on_target: Tensor, on_rest: Tensor) -> None:
        shape = self.shapes.forward
        self._launch(forward_kernel, shape, shape.tile, shape.stream, given, {
            "on_target": on_target, "on_rest": on_rest,
        })  # fmt: skip

    def backward(
        self, given: Given, masses: dict[str, Tensor], wanted: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        """Gradients of all of `given` that are `wanted`."""
        of_query, of_key, *of_tables = wanted
        scale = self._scale(masses)
        dquery = self._new_rows(given.query) if of_query else None
        dkey = self._new_rows(given.key) if of_key else None
        partials = self._partials(given[2:]) if any(of_tables) else None
        gradients = {**masses, "dquery": dquery, "partials": partials, "scale": scale, "partial_stride": 0}
        if partials is not None:
            gradients["partial_stride"] = partials.shape[1]
        if self.shapes.tables is not None and dquery is not None and partials is not None:
            self._query_gradients(self.shapes.queries, given, gradients | {"partials": None})
            self._query_gradients(self.shapes.tables, given, gradients | {"dquery": None})
        elif dquery is not None or partials is not None:
            self._query_gradients(self.shapes.queries, given, gradients)
        if dkey is not None:
            shape = self.shapes.keys
            self._launch(key_gradient_kernel, shape, shape.stream, shape.tile, given, {
                **masses, "dkey": dkey, "scale": scale,
            })  # fmt: skip
        return dquery, dkey, *_split(partials, given[2:], of_tables)

    def _query_gradients(self, shape: TileShape, given: Given, gradients: dict[str, Any]) -> None:
        self._launch(query_gradient_kernel, shape, shape.tile, shape.stream, given, gradients)

    def _partials(self, tables: tuple[Tensor | None, ...]) -> Tensor:
        """Rows of partial sums, one a program."""
        shape = self.shapes.tables or self.shapes.queries
        programs = tile_list(self.sequences, shape.tile).shape[1]
        numbers = sum(table.numel() for table in tables if table is not None)
        # Zeros: tiles of length 0 write nothing.
        return torch.zeros(programs, numbers, device=self.device)

    def _launch(
        self,
        kernel: Any,
        shape: TileShape,
        queries: int,
        keys: int,
        given: Given,
        arguments: dict[str, Any],
    ) -> None:
        """Run a kernel, a program for each of its tiles."""
        tiles = tile_list(self.sequences, shape.tile)
        if not tiles.shape[1] or not self.sequences.num_tokens:
            return
        query, key = (None if rows is None else with_contiguous_rows(rows) for rows in given[:2])
        constants = Constants(
            QUERIES=queries, KEYS=keys, DIM=self.dim, WIDTH=self.width,
            QUERY_STRIDE=0 if query is None else query.stride(0),
            KEY_STRIDE=0 if key is None else key.stride(0),
            PRECISION=self.precision, HALVES=self.dtype.itemsize == 2 and not INTERPRETED,
            BEHAVIORS=self.behaviors, PLAIN=self.has_plain, BEHAVIOR_WIDTH=_round_up(self.behaviors),
            TIMES=self.times, TIME_WIDTH=_round_up(self.times), RECENCIES=self.recencies,
            RECENCY_WIDTH=_round_up(self.recencies),
        )  # fmt: skip
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


@lru_cache(maxsize=64)
def _buckets_of_distances(distances: int, device: torch.device) -> Tensor:
    """[BEFORE + distances] int32, from -BEFORE on; of those below 0 that of 0."""
    distance = torch.arange(-BEFORE, distances, device=device)
    return recency_bucket(distance.clamp(min=0)).to(torch.int32)


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
