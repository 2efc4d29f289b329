"""What the kernels are given alike, found once a call: packed columns, times, tables, packed masses."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
from torch import Tensor

from models.attention.silu.tiles import BLOCK, LARGEST_TILE, tile_list
from models.attention.silu.times import bucket_boundaries, find_times
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape
from models.history.inputs import HistoryInputs
from models.history.kernels.arguments import BEFORE, ROOM, ROWS
from models.history.kernels.packing import pack_columns_kernel, pack_masses_kernel
from models.history.recency import recency_bucket

_PACKED = TileShape(512, 512, warps=4, stages=1)


def columns_of(inputs: HistoryInputs) -> dict[str, object]:
    """Arguments of the kernels that say what is known of events."""
    columns, bias, events = inputs.columns, inputs.bias, inputs.sequences.num_tokens
    behaviors = behaviors_of(inputs)
    names = ["item", "target"]
    names += ["behavior", "wanted"] if behaviors else []
    names += ["again"] if bias.latest is not None else []
    names += ["closed"] if bias.closed is not None else []
    given: dict[str, object] = dict.fromkeys(("behavior", "wanted", "again", "closed"))
    given |= {name: getattr(columns, name).contiguous() for name in names}
    room = events + ROOM
    packed = torch.empty(ROWS, room, dtype=torch.int32, device=inputs.device)
    launch(pack_columns_kernel, (triton.cdiv(room, _PACKED.tile), 1), _PACKED, {
        **given, "packed": packed, "events": events, "room": room, "BEHAVIORS": behaviors,
        "BLOCK": _PACKED.tile,
    })  # fmt: skip
    found: dict[str, object] = {"packed": packed, "room": room, "num_blocks": 0}
    found |= dict.fromkeys(("seconds", "query_time", "timestamp", "bounds"))
    if bias.time is not None:
        times = find_times(columns.query_time, columns.timestamp, tile_list(inputs.sequences, BLOCK))
        found |= {name: getattr(times, name) for name in ("seconds", "query_time", "timestamp", "bounds")}
        found["num_blocks"] = times.bounds.shape[1]
    return found


def tables_of(inputs: HistoryInputs) -> dict[str, object]:
    """Arguments of the kernels that are tables."""
    bias = inputs.bias
    tables: dict[str, Tensor | None] = dict.fromkeys(
        ("states", "time", "recency", "boundaries", "wide_boundaries")
    )
    if behaviors_of(inputs):
        has_switches = bias.latest is not None or bias.closed is not None
        tables["states"] = bias.states if has_switches else bias.behavior
    if bias.time is not None:
        tables["time"] = bias.time
        tables["boundaries"], tables["wide_boundaries"] = bucket_boundaries(inputs.device)
    if bias.recency is not None:
        tables["recency"] = bias.recency.index_select(0, recency_buckets(inputs))
    return {name: None if table is None else table.detach().contiguous() for name, table in tables.items()}


def behaviors_of(inputs: HistoryInputs) -> int:
    """Rows of the tables of behaviors; 0 without any."""
    tables = (inputs.bias.behavior, inputs.bias.latest, inputs.bias.closed)
    return next((len(table) for table in tables if table is not None), 0)


def recency_buckets(inputs: HistoryInputs) -> Tensor:
    """[BEFORE + distances] int32: buckets of how many events ago, from -BEFORE on; of those below 0 that of
    0."""
    # Not one for each length that a batch may have.
    distances = triton.next_power_of_2(inputs.sequences.max_length + LARGEST_TILE)
    return _buckets_of_distances(distances, inputs.device)


@lru_cache(maxsize=64)
def _buckets_of_distances(distances: int, device: torch.device) -> Tensor:
    distance = torch.arange(-BEFORE, distances, device=device)
    return recency_bucket(distance.clamp(min=0)).to(torch.int32)


def pack_masses(masses: dict[str, Tensor], constant: Tensor, scale: Tensor | None) -> Tensor:
    """[4, events + ROOM] float32, see `packing.pack_masses_kernel`."""
    events = len(masses["on_target"])
    room = events + ROOM
    packed = torch.empty(4, room, device=constant.device)
    launch(pack_masses_kernel, (triton.cdiv(room, _PACKED.tile), 1), _PACKED, {
        **masses, "constant": constant, "scale": scale, "masses": packed, "room": room, "events": events,
        "BLOCK": _PACKED.tile,
    })  # fmt: skip
    return packed
