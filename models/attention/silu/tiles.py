"""Lists of tiles: which piece of which sequence each program of a kernel works on.

A list is an int32 tensor [5, tiles]: first token of the sequence, its length, number of the tile within the
sequence, the number of 64-token blocks before the sequence, and the number of the sequence. The longest
sequences come first, so that the programs that start last are short ones. Made once a batch from lengths
known on the host; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.attention.weak_cache import weakly_cached

BLOCK = 64
"""Tokens a block; each block of a sequence has its own bounds of time."""
LARGEST_TILE = 128
"""No kernel's tile has more tokens."""


def tile_lists(
    sequences: Sequences, sizes: Iterable[int], queries: Sequences | None = None
) -> dict[int, Tensor]:
    """`tile_list` of each of `sizes`, and of any others that were made for this batch."""
    made = _lists(sequences) if queries is None else _lists(sequences, queries)
    for size in sizes:
        if size not in made:
            made[size] = _tile_list(sequences, size, queries)
    return made


@weakly_cached
def _lists(sequences: Sequences, queries: Sequences | None = None) -> dict[int, Tensor]:
    """Of this pair, to be filled: the same queries may follow a longer history in the next call."""
    return {}


def tile_list(sequences: Sequences, tile: int, queries: Sequences | None = None) -> Tensor:
    """[5, tiles] int32 on the device of `sequences`, for tiles of `tile` tokens; made once a batch.

    With `queries`, which are the last tokens of each sequence, tiles count from the end of a sequence, and
    only as many are listed as hold queries.
    """
    return tile_lists(sequences, (tile,), queries)[tile]


def _tile_list(sequences: Sequences, tile: int, queries: Sequences | None) -> Tensor:
    if sequences.room is not None:
        if queries is None:
            return tile_list_on_device(sequences.offsets, tile, sequences.room.tokens)
        return tile_list_on_device(sequences.offsets, tile, queries.num_tokens, queries.offsets)
    kept = None if queries is None else np.array(queries.lengths, np.int64)
    host = torch.from_numpy(_make(np.array(sequences.lengths, np.int64), tile, kept))
    return host.to(sequences.offsets.device, non_blocking=True)


def _make(lengths: np.ndarray, tile: int, queries: np.ndarray | None) -> np.ndarray:
    order = np.argsort(-lengths, kind="stable")
    tiles = -(-lengths // tile)
    if queries is not None:
        tiles -= (lengths - queries) // tile
        tiles[queries == 0] = 0
    starts = np.cumsum(lengths) - lengths
    blocks = np.cumsum(-(-lengths // BLOCK)) - (-(-lengths // BLOCK))
    sequence = np.repeat(order, tiles[order])
    before = np.cumsum(tiles[order]) - tiles[order]
    number = np.arange(len(sequence)) - np.repeat(before, tiles[order])
    columns = [starts[sequence], lengths[sequence], number, blocks[sequence], sequence]
    return np.stack(columns).astype(np.int32)


def tile_list_on_device(offsets: Tensor, tile: int, tokens: int, queries: Tensor | None = None) -> Tensor:
    """The same from offsets alone, for graphs that must not depend on lengths.

    As many columns as the number of tokens may need; those left over are of length 0.

    Args:
        offsets: [sequences + 1] of all tokens.
        tile: tokens.
        tokens: of all sequences together, at most; with `queries`, of these.
        queries: [sequences + 1] offsets of the last tokens of each sequence, which alone ask.
    """
    lengths = offsets.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    tiles = (lengths + tile - 1) // tile
    room = tokens // tile + lengths.shape[0]
    if queries is not None:
        asking = queries.diff()
        tiles = torch.where(asking > 0, tiles - (lengths - asking) // tile, 0)
        room += lengths.shape[0]  # the first query may be the last of its tile
    tiles = tiles[order]
    ends = tiles.cumsum(0)
    place = torch.arange(room, device=offsets.device)
    rank = torch.searchsorted(ends, place, right=True).clamp(max=lengths.shape[0] - 1)
    number = place - (ends - tiles)[rank]
    sequence = order[rank]
    block_counts = (lengths + BLOCK - 1) // BLOCK
    blocks = block_counts.cumsum(0) - block_counts
    length = torch.where(place < ends[-1], lengths[sequence], 0)
    return torch.stack([offsets[:-1][sequence], length, number, blocks[sequence], sequence]).to(torch.int32)
