"""Tile sizes: a table instead of autotuning, which would compile every candidate in the first step."""

from __future__ import annotations

from typing import NamedTuple

from models.gpu.tile_shape import TileShape


class TileShapes(NamedTuple):
    """How the kernels are cut. A tile's rows are past events in the kernel for the keys, else queries."""

    forward: TileShape
    keys: TileShape
    queries: TileShape
    tables: TileShape | None
    """Of a launch of their own for the gradients of tables, where one for both would run out of registers;
    None: queries and tables go together."""


def tile_shapes(width: int, element_size: int) -> TileShapes:
    """Shapes for rows of `width` numbers, rounded up to a power of two."""
    if element_size == 4:
        small = TileShape(64, 32, 4, 2) if width <= 64 else TileShape(32, 32, 4, 1)
        if width > 128:
            small = TileShape(32, 32, 8, 1, registers=255)
        return TileShapes(small, small, small, None)
    small = TileShape(64, 32, 4, 3)
    if width > 128:
        return TileShapes(TileShape(64, 32, 8, 2), TileShape(64, 32, 4, 2), small, small)
    return TileShapes(small, small, small, None)
