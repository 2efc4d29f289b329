"""What wide heads have in memory to find it once: gradients of scores (`kept_scores`), the bias of all pairs
(`written_bias`)."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from models.attention.silu.attention_call import AttentionCall
from models.attention.silu.kept_scores import row_of
from models.attention.silu.specialization import KernelSet
from models.gpu.availability import EXPERIMENTAL
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
    if os.environ.get(EXPERIMENTAL) != "1":
        return 0
    return torch.cuda.get_device_properties(device).total_memory // _SHARE_OF_MEMORY


def room_for_scores(call: AttentionCall, ready: KernelSet, q: Tensor) -> Tensor | None:
    """[heads, tokens, places] for gradients of scores, where they are to be kept."""
    (tokens, heads, _), row = q.shape, row_of(call.longest)
    if not ready.can_keep or heads * tokens * row * q.element_size() > most_bytes(ready.device):
        return None
    return q.new_empty((heads, tokens, row))


def of_kept(kept: Tensor) -> Numbers:
    """Numbers of a kernel that goes with these."""
    return {"tokens": kept.shape[1], "kept_stride": kept.shape[2]}


def write_bias(call: AttentionCall, ready: KernelSet, like: Tensor) -> Written | None:
    """The bias of all pairs, where it is to be written; `like` has its tokens, and is where it is."""
    rows = ready.written_rows
    tokens, row = like.shape[0], row_of(call.longest)
    if not rows or not tokens or rows * tokens * row * 2 > most_bytes(ready.device):
        return None
    written = like.new_empty((rows, tokens, row), dtype=torch.float16)
    tiles, numbers, given = call.tiles[ready.writing.tile], call.numbers(), call.tensors()
    sizes: Numbers = {"tokens": tokens, "written_stride": row}
    ready.write_bias(
        (rows, tiles.shape[1]),
        {name: given[name] for name in _OF_BIAS if name in given} | {"written": written, "tiles": tiles},
        sizes | {"num_blocks": numbers.get("num_blocks", 0), "num_tiles": tiles.shape[1]},
    )
    sizes |= {"written_heads": int(rows > 1)} | {name: numbers[name] for name in _SCALES}
    return Written({"written": written}, sizes)
