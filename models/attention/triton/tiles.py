"""Lists of tiles: which piece of which sequence each program of a kernel works on.

A list is an int32 tensor [4, tiles]: first token of the sequence, its length, number of the tile within the
sequence, and the number of 64-token blocks before the sequence. The longest sequences come first, so that the
programs that start last are short ones. Made once a batch from lengths known on the host; nothing waits for
the device.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from models.attention.sequences import Sequences

BLOCK = 64
"""Tokens a block; each block of a sequence has its own bounds of time."""

_lists: WeakKeyDictionary[Sequences, dict[int, Tensor]] = WeakKeyDictionary()


def tile_list(sequences: Sequences, tile: int) -> Tensor:
    """[4, tiles] int32 on the device of `sequences`, for tiles of `tile` tokens."""
    made = _lists.setdefault(sequences, {})
    if tile not in made:
        host = torch.from_numpy(_make(np.array(sequences.lengths, np.int64), tile))
        made[tile] = host.to(sequences.offsets.device, non_blocking=True)
    return made[tile]


def _make(lengths: np.ndarray, tile: int) -> np.ndarray:
    order = np.argsort(-lengths, kind="stable")
    tiles = -(-lengths // tile)
    starts = np.cumsum(lengths) - lengths
    blocks = np.cumsum(-(-lengths // BLOCK)) - (-(-lengths // BLOCK))
    sequence = np.repeat(order, tiles[order])
    before = np.cumsum(tiles[order]) - tiles[order]
    number = np.arange(len(sequence)) - np.repeat(before, tiles[order])
    return np.stack([starts[sequence], lengths[sequence], number, blocks[sequence]]).astype(np.int32)


def tile_list_on_device(offsets: Tensor, tile: int, tokens: int) -> Tensor:
    """The same from offsets alone, for graphs that must not depend on lengths.

    As many columns as the number of tokens may need; those left over are of length 0.
    """
    lengths = offsets.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    tiles = ((lengths + tile - 1) // tile)[order]
    ends = tiles.cumsum(0)
    place = torch.arange(tokens // tile + lengths.shape[0], device=offsets.device)
    rank = torch.searchsorted(ends, place, right=True).clamp(max=lengths.shape[0] - 1)
    number = place - (ends - tiles)[rank]
    sequence = order[rank]
    block_counts = (lengths + BLOCK - 1) // BLOCK
    blocks = block_counts.cumsum(0) - block_counts
    length = torch.where(place < ends[-1], lengths[sequence], 0)
    return torch.stack([offsets[:-1][sequence], length, number, blocks[sequence]]).to(torch.int32)
