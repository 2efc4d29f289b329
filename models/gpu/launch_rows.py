"""Launches of kernels whose programs hold whole rows."""

from __future__ import annotations

from typing import Any

from models.gpu.launcher import launch
from models.gpu.tile_shape import TileShape

_NUMBERS = 2048
"""Of a program, of 4 warps; a row lies within one."""
_WARPS = 4


def launch_rows(
    kernel: Any, rows: int, width: int, arguments: dict[str, Any], dim: int | None = None
) -> None:
    """Launch a kernel whose programs hold ROWS rows of DIM numbers each, DIM being a power of two.

    Args:
        kernel: with arguments `rows`, `WIDTH`, `DIM` and `ROWS`.
        rows: how many there are; for none, nothing is launched.
        width: numbers of a row.
        arguments: its others.
        dim: by default the next power of two from the width on.
    """
    if not rows:
        return
    dim = dim or 1 << (width - 1).bit_length()
    at_once = max(_NUMBERS // dim, 1)
    sizes = {"rows": rows, "WIDTH": width, "DIM": dim, "ROWS": at_once}
    launch(kernel, (-(-rows // at_once), 1), TileShape(at_once, 1, _WARPS, 1), {**arguments, **sizes})
