"""How one kernel is tiled and compiled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TileShape:
    """Tile sizes of a kernel, and the options that Triton compiles it with."""

    tile: int
    """Rows (tokens, say) that a program owns."""
    stream: int
    """Rows of the other operand that a program loads in one iteration of its inner loop."""
    warps: int
    """`num_warps`: warps of a program, 32 threads each."""
    stages: int
    """`num_stages`: depth of the software pipeline of loads."""
    registers: int | None = None
    """`maxnreg`: maximum registers of a thread; None leaves it to the compiler. 128 let two programs of 8
    warps share a multiprocessor. 255, all there are, where ptxas would settle for 32 and spill the rest."""

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch by Triton."""
        options = {"num_warps": self.warps, "num_stages": self.stages}
        return options if self.registers is None else options | {"maxnreg": self.registers}
