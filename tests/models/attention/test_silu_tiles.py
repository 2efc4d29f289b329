"""Lists of tiles: from lengths on the host, from offsets on the device, and of queries alone."""

from __future__ import annotations

import pytest
import torch

from models.attention import Sequences
from models.attention.silu.tiles import BLOCK, tile_list, tile_list_on_device


@pytest.mark.parametrize("lengths", [(5,), (0, 200, 64, 1, 65), (0, 0), (300, 300)])
@pytest.mark.parametrize("tile", [BLOCK, 128])
def test_tiles_from_lengths_and_from_offsets_agree(lengths: tuple[int, ...], tile: int) -> None:
    sequences = Sequences.from_lengths(lengths)
    made = tile_list(sequences, tile)
    found = tile_list_on_device(sequences.offsets, tile, sum(lengths))
    count = made.shape[1]
    assert found[1, count:].tolist() == [0] * (found.shape[1] - count)
    assert torch.equal(found[:, :count], made)


@pytest.mark.parametrize("tile", [BLOCK, 128])
@pytest.mark.parametrize(
    ("lengths", "last"),
    [((70, 0, 10, 200), (7, 0, 0, 9)), ((130, 65), (2, 65)), ((64, 1), (1, 1)), ((0,), (0,))],
)
def test_tiles_of_queries_from_lengths_and_from_offsets_agree(
    lengths: tuple[int, ...], last: tuple[int, ...], tile: int
) -> None:
    known, kept = Sequences.from_lengths(lengths), Sequences.from_lengths(last)
    made = tile_list(known, tile, kept)
    unread = Sequences.unread(known.offsets, tokens=sum(lengths) + 5, longest=300)
    asking = Sequences.unread(kept.offsets, tokens=sum(last) + 3, longest=300)
    found = tile_list(unread, tile, asking)
    count = made.shape[1]
    assert not found[1, count:].any()
    assert torch.equal(found[:, :count], made)


def test_the_longest_sequences_come_first() -> None:
    tiles = tile_list(Sequences.from_lengths([70, 0, 10, 200]), 64)
    # 200 tokens from token 80 on: tiles 0 to 3; then 70 from 0 on; then 10 from 70 on.
    assert tiles.tolist() == [
        [80, 80, 80, 80, 0, 0, 70],
        [200, 200, 200, 200, 70, 70, 10],
        [0, 1, 2, 3, 0, 1, 0],
        [3, 3, 3, 3, 0, 0, 2],
        [3, 3, 3, 3, 0, 0, 2],
    ]


def test_only_tiles_that_hold_queries_are_listed() -> None:
    sequences = Sequences.from_lengths([70, 0, 10, 200])
    queries = Sequences.from_lengths([7, 0, 0, 9])
    # Tokens 63 to 69 of the first lie in both of its tiles, 191 to 199 of the last in the last two.
    tiles = tile_list(sequences, 64, queries)
    assert tiles[[4, 2]].tolist() == [[3, 3, 0, 0], [0, 1, 0, 1]]
