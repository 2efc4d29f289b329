"""Tile sizes, found by measuring on an H100 (docs/attention-measured.md): a table instead of autotuning.

Autotuning would compile every candidate, seconds each, in the first step of every training run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from models.gpu.tile_shape import TileShape

_KEPT, _KEPT_SUMMED = TileShape(128, 64, 8, 3), TileShape(64, 64, 8, 3)


@dataclass(frozen=True)
class TileShapes:
    """How all kernels of a problem are cut."""

    forward: TileShape
    keys: TileShape
    queries: TileShape
    kept: TileShape = _KEPT
    """For gradients of q by kept gradients of scores (`kept_scores`)."""
    kept_summed: TileShape = _KEPT_SUMMED
    """The same where those of tables are summed too."""
    split: bool = True
    """Whether tiles that need no mask have a loop of their own: faster when long, slower to compile."""

    def tiles(self) -> set[int]:
        """The sizes of tiles of all kernels."""
        return {shape.tile for shape in (self.forward, self.keys, self.queries, self.kept, self.kept_summed)}


@lru_cache(maxsize=256)
def tile_shapes(
    qk_width: int, v_width: int, element_size: int, timed: bool, placed: bool, short: bool
) -> TileShapes:
    """Shapes for head dimensions rounded up to powers of two, with or without biases of time and position.

    Times need registers: tiles must be smaller, or fewer programs share a multiprocessor. `short` says that
    no sequence passes 256 tokens.
    """
    width = max(qk_width, v_width)
    small = TileShape(64, 64, 4, 2)
    if element_size == 4:
        small = TileShape(64, 32, 4, 2) if width <= 64 else TileShape(32, 32, 4, 1)
        if width > 128:
            small = TileShape(32, 32, 8, 1, registers=255)
        return TileShapes(small, small, small)
    if width > 128:
        keys = TileShape(64, 64, 8, 2)
        # Sums of tables' gradients in shared memory want fewer warps (`shared_sums`).
        queries = TileShape(64, 32, 4, 2) if timed or placed else TileShape(128, 32, 8, 3)
        return TileShapes(TileShape(128, 64, 8, 2), keys, queries)
    if width <= 64 or short:
        split = not short
        if timed and split:
            return TileShapes(TileShape(64, 32, 4, 3, registers=128), small, small)
        return TileShapes(TileShape(64, 64, 4, 3), small, small, split=split)
    if timed:
        return TileShapes(TileShape(64, 64, 4, 3), TileShape(128, 32, 8, 3), small)
    forward, backward = TileShape(128, 32, 8, 4, registers=128), TileShape(128, 64, 8, 3)
    return TileShapes(forward, backward, backward)
