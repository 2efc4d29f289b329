"""Tile sizes, and how many programs share the keys of a tile of queries: a table instead of autotuning.

`benchmarks/cached_variants.py` times others; `chosen` puts them in place of the table's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from models.gpu.tile_shape import TileShape


class Cut(NamedTuple):
    """How the kernel is cut and how far ahead it reads."""

    shape: TileShape
    ahead: tuple[int, int] = (0, 0)
    """Iterations by which tiles of keys and of values are loaded ahead (`prefetching`); 0: as stages say."""


class Choice(NamedTuple):
    """What is asked for instead of what the table says; None: as that says."""

    cut: Cut | None = None
    parts: int | None = None


_chosen: ContextVar[Choice] = ContextVar("chosen", default=Choice())  # noqa: B039 (a tuple)

MOST_PARTS = 16
LEAST_TILES = 3
"""Tiles of keys, below which a part of them is not worth a program."""
_OVERHEAD = 10.0
"""Tiles of keys in whose time a program begins and ends."""
_COMBINED = 1.5
"""The same of putting parts together: that there are any, and of one part of one program's."""
_PART = 0.026


@contextmanager
def chosen(cut: Cut | None = None, parts: int | None = None) -> Iterator[None]:
    """In here, kernels are cut so."""
    token = _chosen.set(Choice(cut, parts))
    try:
        yield
    finally:
        _chosen.reset(token)


def choose_cut(width: int, element_size: int, queries: int) -> Cut:
    """How the kernel is cut.

    Args:
        width: of heads, rounded up to a power of two.
        element_size: of queries or of what is stored, whichever is larger, in bytes.
        queries: most of a sequence.
    """
    forced = _chosen.get().cut
    if forced is not None:
        return forced
    if element_size == 4:
        return Cut(_of_float32(width, queries))
    if queries <= 16:
        return Cut(TileShape(16, 64, 4, 3))
    if queries <= 64:
        return Cut(TileShape(64, 64, 4, 3))
    return Cut(TileShape(128, 64, 8, 2 if width > 128 else 3))


def _of_float32(width: int, queries: int) -> TileShape:
    if queries <= 16:
        return TileShape(16, 32, 4, 2)
    if width <= 64:
        return TileShape(64, 32, 4, 2)
    return TileShape(32, 32, 4, 1) if width <= 128 else TileShape(32, 32, 8, 1, registers=255)


def parts_of_keys(programs: int, tiles: int, processors: int) -> int:
    """How many programs share the keys of a tile: all of a GPU is busy, and little waits for a last wave.

    Args:
        programs: that there are without.
        tiles: of keys of the longest sequence.
        processors: programs that run at once.
    """
    forced = _chosen.get().parts
    if forced is not None:
        return forced

    def tiles_in_turn(parts: int) -> float:
        waves = -(-programs * parts // processors)
        combined = _COMBINED + _PART * programs * parts if parts > 1 else 0.0
        return waves * (-(-tiles // parts) + _OVERHEAD) + combined

    most = max(1, min(MOST_PARTS, tiles // LEAST_TILES))
    return min(range(1, most + 1), key=tiles_in_turn)
