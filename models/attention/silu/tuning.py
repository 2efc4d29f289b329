"""Sizes of tiles, found by measuring on an H100 (docs/attention.md); a table instead of a search at run time.

A search would compile every candidate, seconds each, in the first step of every training run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Shape:
    """How one kernel is cut."""

    tile: int
    """Tokens that a program owns."""
    stream: int
    """Tokens that it reads at a time."""
    warps: int
    stages: int
    """Depth of the pipeline of reads."""
    registers: int | None = None
    """Most registers of a thread; None leaves it to the compiler. 128 let two programs of 8 warps share a
    multiprocessor. 255, all there are, where the compiler would settle for 32 and keep the rest in memory."""

    def options(self) -> dict[str, int]:
        """How Triton is told."""
        options = {"num_warps": self.warps, "num_stages": self.stages}
        return options if self.registers is None else options | {"maxnreg": self.registers}


@dataclass(frozen=True)
class Shapes:
    """How all kernels of a problem are cut."""

    forward: Shape
    keys: Shape
    queries: Shape
    split: bool = True
    """Whether tiles that need no mask have a loop of their own: faster when long, slower to compile."""

    def tiles(self) -> set[int]:
        """The sizes of tiles of all kernels."""
        return {shape.tile for shape in (self.forward, self.keys, self.queries)}


@lru_cache(maxsize=256)
def shapes(qk_width: int, v_width: int, element_size: int, timed: bool, short: bool) -> Shapes:
    """Shapes for head dimensions rounded up to powers of two, with or without a time bias.

    Times need registers: tiles must be smaller, or fewer programs share a multiprocessor. `short` says that
    no sequence passes 256 tokens.
    """
    width = max(qk_width, v_width)
    small = Shape(64, 64, 4, 2)
    if element_size == 4:
        small = Shape(64, 32, 4, 2) if width <= 64 else Shape(32, 32, 4, 1)
        if width > 128:
            small = Shape(32, 32, 8, 1, registers=255)
        return Shapes(small, small, small)
    if width > 128:
        small = Shape(64, 32, 8, 2)
        return Shapes(Shape(128, 64, 8, 2), small, small)
    if width <= 64 or short:
        split = not short
        if timed and split:
            return Shapes(Shape(64, 32, 4, 3, registers=128), small, small)
        return Shapes(Shape(64, 64, 4, 3), small, small, split=split)
    if timed:
        return Shapes(Shape(64, 64, 4, 3), Shape(128, 32, 8, 3), small)
    forward, backward = Shape(128, 32, 8, 4, registers=128), Shape(128, 64, 8, 3)
    return Shapes(forward, backward, backward)
