"""What wide heads have in memory to find it once: gradients of scores (`kept_scores`), the bias of all pairs
(`written_bias`). Where memory is short, kernels do without."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.attention.silu.attention_call import AttentionCall
from models.attention.silu.kept_scores import row_of
from models.attention.silu.specialization import KernelSet
from models.gpu.launcher import Numbers, Tensors

_ON_CPU = 1 << 24
_SHARE_OF_MEMORY = 16
_OF_BIAS = (
    "position", "time", "query_time", "timestamp", "seconds", "bounds", "boundaries", "wide_boundaries",
    "bucket_table",
)  # fmt: skip
"""What the kernel that writes a bias wants of the tensors of a batch, if there."""
_SCALES = ("half_scale", "output_scale")


class Written(NamedTuple):
    """What kernels are given in place of the parts of a bias."""

    tensors: Tensors
    numbers: Numbers


@cache
def most_bytes(device: torch.device) -> int:
    """That either may take, while one attention layer is computed or differentiated."""
    if device.type != "cuda":
        return _ON_CPU
    return torch.cuda.get_device_properties(device).total_memory // _SHARE_OF_MEMORY


def room_for_scores(call: AttentionCall, ready: KernelSet, q: Tensor) -> Tensor | None:
    """[heads, tokens, places] for gradients of scores, where they are to be kept."""
    tokens, heads, _ = q.shape
    return _room(call, ready, q, heads, q.dtype) if ready.can_keep and tokens else None


def _room(
    call: AttentionCall, ready: KernelSet, like: Tensor, rows: int, dtype: torch.dtype
) -> Tensor | None:
    """[rows, tokens, places] for a number a pair, where there is as much memory."""
    shape = rows, like.shape[0], row_of(call.longest)
    if math.prod(shape) * dtype.itemsize > most_bytes(ready.device):
        return None
    try:
        return like.new_empty(shape, dtype=dtype)
    except torch.OutOfMemoryError:
        return None


def of_kept(kept: Tensor) -> Numbers:
    """Numbers of a kernel that goes with these."""
    return {"tokens": kept.shape[1], "kept_stride": kept.shape[2]}


def write_bias(call: AttentionCall, ready: KernelSet, like: Tensor) -> Written | None:
    """The bias of all pairs, where it is to be written; `like` has its tokens, and is where it is."""
    rows = ready.written_rows
    written = _room(call, ready, like, rows, torch.float16) if rows and like.shape[0] else None
    if written is None:
        return None
    _, tokens, row = written.shape
    tiles, numbers, given = call.tiles[ready.writing.tile], call.numbers(), call.tensors()
    sizes: Numbers = {"tokens": tokens, "written_stride": row}
    ready.write_bias(
        (rows, tiles.shape[1]),
        {name: given[name] for name in _OF_BIAS if name in given} | {"written": written, "tiles": tiles},
        sizes | {"num_blocks": numbers.get("num_blocks", 0), "num_tiles": tiles.shape[1]},
    )
    sizes |= {"written_heads": int(rows > 1)} | {name: numbers[name] for name in _SCALES}
    return Written({"written": written}, sizes)
