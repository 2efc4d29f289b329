"""Attention of one layer out of pages: from tensors to launches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.attention.bias import RelativeBias
from models.attention.masks import Mask
from models.attention.paged.appending import KEYS_EACH, append_kernel
from models.attention.paged.arguments import BLOCK, Constants
from models.attention.paged.combining import combine_kernel
from models.attention.paged.forward import paged_kernel
from models.attention.paged.paging import Paging
from models.attention.paged.tuning import Cut, choose_cut, parts_of_keys
from models.attention.silu.times import bucket_boundaries
from models.gpu.interpreter import INTERPRETED
from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape

_FAR = 2**30
_COPIED = TileShape(1, 1, warps=4, stages=1)
_COPIED_NUMBERS = 4096
"""Of keys, and as many of values, that a program copies, or a row."""
_COMBINED = 1024
"""Numbers of the result that a program puts together."""
_SHARED = 227 << 10
"""Bytes of shared memory of a multiprocessor."""
_WARPS = 8
"""Of a multiprocessor, whose threads have all registers they can have."""


@dataclass(frozen=True, eq=False)
class Layer:
    """What attention of one layer is."""

    keys: Tensor
    """[rows, heads, qk_dim] pages of its keys."""
    values: Tensor
    """[rows, heads, v_dim]"""
    softmax: bool
    """Or else SiLU."""
    mask: Mask
    bias: RelativeBias | None
    qk_scale: float
    output_scale: float
    activate: bool = False
    """Whether SiLU of queries, keys and values that are given is still to be taken."""


class _Rows(NamedTuple):
    """Bias and mask of candidates, see `appending`."""

    rows: Tensor | None
    own: Tensor | None
    tables: int
    """Tables of bias: 1, or one a head."""


def attend(layer: Layer, paging: Paging, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[asking, heads, v_dim] of v's type; keys and values of events are in the pages afterwards.

    Args:
        layer: what is computed.
        paging: of the pass.
        q, key: [asking, heads, qk_dim].
        value: [asking, heads, v_dim].
    """
    q, key, value = (_with_rows(each) for each in (q, key, value))
    bias = _bias_arguments(layer.bias, paging)
    rows = _append(layer, paging, key, value, bias)
    return _forward(layer, paging, (q, key, value), bias, rows)


def _with_rows(tensor: Tensor) -> Tensor:
    """With all heads of a token next to each other."""
    return tensor if tensor.stride()[1:] == (tensor.shape[2], 1) else tensor.contiguous()


def _bias_arguments(bias: RelativeBias | None, paging: Paging) -> dict[str, object]:
    position, time, amount, rate = (None,) * 4 if bias is None else bias.tensors()
    boundaries, wide = bucket_boundaries(paging.table.device)

    def row(table: Tensor | None, dims: int) -> int:
        return 0 if table is None or table.ndim < dims or table.shape[0] == 1 else table[0].numel()

    return {
        "position": None if position is None else position.contiguous(),
        "position_row": row(position, 2),
        "last_position": 0 if position is None else position.shape[-1] - 1,
        "time": None if time is None else time.contiguous(),
        "time_row": row(time, 2),
        "amount": amount, "rate": rate, "decay_row": row(amount, 1),
        "boundaries": boundaries, "wide_boundaries": wide,
    }  # fmt: skip


def _append(layer: Layer, paging: Paging, key: Tensor, value: Tensor, bias: dict[str, object]) -> _Rows:
    """Write keys and values, and find the rows of candidates."""
    new, k_width, v_width = len(key), key[0].numel(), value[0].numel()
    tokens = max(1, _COPIED_NUMBERS // _power(max(k_width, v_width)))
    copies, found, blocks = -(-new // tokens), _Rows(None, None, 1), 0
    if paging.candidates is not None:
        count = 1 if layer.bias is None else layer.bias.rows
        numbers = torch.empty(count, paging.sequences, paging.room, dtype=torch.float32, device=key.device)
        found = _Rows(numbers, numbers.new_empty(count, paging.sequences), count)
        blocks = -(-paging.room // KEYS_EACH)
    launch(append_kernel, (copies + blocks * paging.sequences, found.tables), _COPIED, {
        name: value for name, value in bias.items() if name != "boundaries"
    } | {
        "key": key, "value": value, "keys": layer.keys, "values": layer.values, "written": paging.written,
        "copies": copies, "new": new, "nowhere": len(layer.keys) - 1, "key_stride": key.stride(0),
        "value_stride": value.stride(0), "rows": found.rows, "own_row": found.own, "users": paging.users,
        "num_users": paging.sequences, "table": paging.table, "table_width": paging.table.shape[1],
        "happened": paging.happened, "query_time": paging.query_time, "timestamp": paging.timestamp,
        "room": paging.room, "blocks": max(blocks, 1), **_mask_arguments(layer.mask),
        "TOKENS": tokens, "K_WIDTH": k_width, "V_WIDTH": v_width, "K_ROOM": _power(k_width),
        "V_ROOM": _power(v_width), "PAGE": paging.page, "CONTEXT": layer.mask.context,
        "POWER": _is_power(layer.bias), "FACTOR": _factor(layer),
        "ACTIVATE": layer.activate,
    })  # fmt: skip
    return found


def _forward(
    layer: Layer,
    paging: Paging,
    asking: tuple[Tensor, Tensor, Tensor],
    bias: dict[str, object],
    rows: _Rows,
) -> Tensor:
    q, key, value = asking
    new, heads, dim = q.shape
    element = max(q.element_size(), layer.keys.element_size())
    width = _power(max(dim, value.shape[2]))
    cut = choose_cut(width, element, paging.most_asking)
    shape = cut.shape
    at_once = _processors(q.device) * _programs_each(shape, width * element)
    tiles = -(-paging.most_asking // shape.tile) + (rows.rows is not None)
    programs = max(paging.sequences, -(-new // shape.tile))
    if rows.rows is not None:  # with those of a tile that is there if events end within one
        programs += paging.sequences
    parts = parts_of_keys(heads * programs, -(-paging.longest // shape.stream), at_once)
    out = value.new_empty(new, heads, value.shape[2])
    target, stats = out, None
    if parts > 1:
        target = torch.empty(parts, *out.shape, dtype=torch.float32, device=q.device)
        stats = target.new_empty(parts, 2, new, heads) if layer.softmax else None
    # Of queries after SiLU.
    ready = torch.empty(new, heads, dim, dtype=q.dtype, device=q.device) if layer.activate else None
    timed = bias["time"] is not None
    query_seconds, seconds, bounds = paging.seconds if timed else (None, None, None)
    launch(paged_kernel, (tiles * heads, paging.sequences * parts), shape, bias | {
        "q": q, "ready": ready, "own_key": key, "own_value": value, "keys": layer.keys,
        "values": layer.values, "out": target, "stats": stats, "users": paging.users,
        "num_users": paging.sequences,
        "table": paging.table, "table_width": paging.table.shape[1], "query_time": paging.query_time,
        "query_seconds": query_seconds, "happened": paging.happened, "seconds": seconds, "bounds": bounds,
        "room": paging.room, "num_blocks": paging.sequences * (paging.room // BLOCK), "rows": rows.rows,
        "own_row": rows.own, "bias_row": int(rows.tables > 1), "q_stride": q.stride(0),
        "key_stride": key.stride(0), "value_stride": value.stride(0), **_mask_arguments(layer.mask),
        "scale": float(_factor(layer) * layer.qk_scale),
        "output_scale": float(layer.output_scale), "tiles": tiles, "parts": parts,
        "part_size": out.numel(), "new": new, "C": _constants(layer, paging, q, value, cut, rows, parts),
    })  # fmt: skip
    if parts > 1:
        _combine(target, stats, out)
    return out


def _combine(parted: Tensor, stats: Tensor | None, out: Tensor) -> None:
    numbers = out.numel()
    launch(combine_kernel, (-(-numbers // _COMBINED), 1), None, {
        "parted": parted, "stats": stats, "out": out, "part_size": numbers, "numbers": numbers,
        "new_heads": out.shape[0] * out.shape[1], "parts": parted.shape[0], "DIM": out.shape[2],
        "BLOCK": _COMBINED, "SOFTMAX": stats is not None,
    })  # fmt: skip


def _constants(
    layer: Layer, paging: Paging, q: Tensor, value: Tensor, cut: Cut, rows: _Rows, parts: int
) -> Constants:
    precise = q.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return Constants(
        QUERIES=cut.shape.tile, KEYS=cut.shape.stream,
        QK_DIM=q.shape[2], QK_WIDTH=max(16, _power(q.shape[2])),
        V_DIM=value.shape[2], V_WIDTH=max(16, _power(value.shape[2])), HEADS=q.shape[1],
        K_STRIDE=layer.keys.stride(0), V_STRIDE=layer.values.stride(0), PAGE=paging.page,
        CONTEXT=layer.mask.context, WINDOWED=layer.mask.window is not None, SOFTMAX=layer.softmax,
        POWER=_is_power(layer.bias), FAST=q.element_size() == 2 and not INTERPRETED,
        PRECISION="tf32x3" if precise else "tf32", FACTOR=_factor(layer), CANDIDATES=rows.rows is not None,
        KEYS_AHEAD=cut.ahead[0], VALUES_AHEAD=cut.ahead[1],
        ACTIVATE=layer.activate, PARTS=parts > 1,
    )  # fmt: skip


def _mask_arguments(mask: Mask) -> dict[str, int]:
    return {"window": _FAR if mask.window is None else mask.window, "front": mask.front}


def _is_power(bias: RelativeBias | None) -> bool:
    return bool(bias and bias.decay and bias.decay.kind == "power")


def _factor(layer: Layer) -> float:
    """Of scores as kernels keep them: halves for SiLU, and for softmax powers of two."""
    return math.log2(math.e) if layer.softmax else 0.5


def _power(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


def _programs_each(shape: TileShape, row: int) -> int:
    """That a multiprocessor has at a time, given the bytes of a token of a head."""
    shared = (shape.tile + 2 * shape.stream * shape.stages) * row
    return max(1, min(_SHARED // shared, _WARPS // shape.warps))


@cache
def _processors(device: torch.device) -> int:
    """Multiprocessors; where kernels are interpreted, few."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count
