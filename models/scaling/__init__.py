"""Scaling: how good models become with size, data and compute.

A grid of sizes and a data set give a folder with a run for each, and points: what a run had seen, spent and
reached at each validation. `laws` fits laws to points and says what follows from them; it imports `behavior`
only, the rest any room of `models`.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.scaling.grid import ScaleGrid, load_grid
    from models.scaling.points import read_points
    from models.scaling.scale import Scale
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {"Scale": "scale", "ScaleGrid": "grid", "load_grid": "grid", "read_points": "points"},
    )

__all__ = ["Scale", "ScaleGrid", "load_grid", "read_points"]
