"""Ways to compute the cached blocks of `cached_histories.py`, on one GPU, beside each other and checked.

    PYTHONPATH=. python benchmarks/cached_variants.py [--users 1 8 32] [--all] [--small] [--json FILE]

Of 128 new events and 256 candidates after 3,968 cached events, the 8 blocks alone, as a CUDA graph:

- `anew`: everything in one pass; `gathered`: keys and values copied out of their pages first.
- `paged`: read in their pages, by the table's tiles and parts of keys; then by others: tiles of queries x
  keys, warps, stages, iterations that keys and values are read ahead, and programs that share a tile's keys.
- `error`: relative distance to what is gathered; `times`: how many times as fast as anew.
- `end to end`, `candidates`: as in `cached_histories.py`, with the table's.
- `kernels`: milliseconds of the device in each kernel, by the table's tiles; `tflops` of attention's.

Times are medians in milliseconds. A variant that fails is a row with its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.cached_histories import Measurement, measure_all, parser_of, tried
from benchmarks.cached_measured import Kept, Row, Size, distance, milliseconds, replayed
from models.attention.paged.tuning import Cut, chosen
from models.gpu.precompile import can_precompile, precompile
from models.gpu.tile_shape import TileShape
from models.serving.cache.past import PastInPlace

CUTS = [Cut(TileShape(128, 64, 8, 2), (1, 1)), Cut(TileShape(128, 64, 8, 3), (2, 1))]
MORE_CUTS = [
    Cut(TileShape(128, 32, 8, 3)),
    Cut(TileShape(128, 32, 8, 3), (2, 1)),
    Cut(TileShape(128, 32, 8, 4), (3, 2)),
    Cut(TileShape(64, 64, 4, 3), (2, 1)),
    Cut(TileShape(64, 32, 4, 3), (2, 1)),
]
SAFE = Cut(TileShape(128, 32, 8, 3))
"""For the first call, before all are tried."""
PARTS = {1: (6, 11), 8: (2,), 32: ()}
MORE_PARTS = {1: (4, 5, 16), 8: (4, 7, 11), 32: (2, 3)}


class Variant(NamedTuple):
    """What is asked for in place of the table's."""

    cut: Cut | None = None
    parts: int | None = None

    def __str__(self) -> str:
        cut = "table"
        if self.cut is not None:
            shape = self.cut.shape
            cut = f"{shape.tile}x{shape.stream} w{shape.warps} s{shape.stages} ahead {self.cut.ahead}"
        return cut if self.parts is None else f"{cut} parts {self.parts}"

    def entered(self) -> AbstractContextManager[None]:
        return chosen(self.cut, self.parts)


class Blocks:
    """The blocks of one measurement, as they are called by a cache."""

    def __init__(self, of: Measurement, in_place: bool) -> None:
        cache = of.cache(graphs=False)
        cache._passes.in_place = in_place
        self.kept = Kept(cache._passes.backbone)
        cache._passes.backbone = self.kept  # type: ignore[assignment]
        with chosen(SAFE):
            of.outputs(cache, of.new)
        self.read_in_place = isinstance(self.kept.arguments[2], PastInPlace)

    def time(self, entered: AbstractContextManager[None]) -> tuple[float, Tensor]:
        """Milliseconds, and the result."""
        with entered:
            result = self.kept.again()
            call = replayed(self.kept.again) if torch.cuda.is_available() else self.kept.again
        return milliseconds(call), result


def profiled(blocks: Blocks, of: Measurement) -> Row:
    blocks.kept.again()
    with torch.profiler.profile() as profile:
        blocks.kept.again()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    kernels: Row = {
        event.key[:60]: [event.count, round(event.self_device_time_total / 1000, 4)]
        for event in events[:40]
        if event.self_device_time_total and "CUDA" in str(event.device_type)
    }
    size = of.size
    pairs = size.new * (size.history - size.new / 2) + size.candidates * (size.history + 1)
    attention = sum(time for name, (_, time) in kernels.items() if "paged_kernel" in name)
    work = 4 * pairs * size.dim * size.blocks * of.users
    return {"kernels": kernels, "tflops": work / attention / 1e9 if attention else None}


def measure(size: Size, users: int, everything: bool) -> Iterator[Row]:
    of = Measurement(size, users)
    about: Row = {"users": users}
    graphs = torch.cuda.is_available()
    anew = milliseconds(replayed(of.anew.blocks) if graphs else of.anew.blocks)
    gathered = Blocks(of, in_place=False)
    time, truth = gathered.time(nullcontext())
    yield about | {"variant": "anew", "ms": anew}
    yield about | {"variant": "gathered", "ms": time, "times": anew / time}
    del gathered
    blocks = Blocks(of, in_place=True)
    parts = PARTS.get(users, ()) + (MORE_PARTS.get(users, ()) if everything else ())
    cuts = CUTS + (MORE_CUTS if everything else [])
    variants = [Variant(), *(Variant(parts=number) for number in parts), *map(Variant, cuts)]
    if graphs and can_precompile():

        def all_of_them() -> None:
            for variant in variants:
                with variant.entered():
                    blocks.kept.again()

        precompile(all_of_them)

    for variant in variants:

        def one(variant: Variant = variant) -> Row:
            time, found = blocks.time(variant.entered())
            return {"ms": time, "times": anew / time, "error": distance(found, truth)}

        yield tried(about | {"variant": f"paged {variant}", "in place": blocks.read_in_place}, one)
    yield tried(about | {"variant": "kernels"}, lambda: profiled(blocks, of))
    yield tried(about | {"variant": "outputs"}, of.about)
    yield tried(about | {"variant": "end to end"}, lambda: of.end_to_end(graphs))
    yield tried(about | {"variant": "candidates"}, lambda: of.candidates(graphs))


def kept_going(size: Size, users: int, everything: bool) -> Iterator[Row]:
    """What is measured, and what failed."""
    try:
        yield from measure(size, users, everything)
    except Exception as error:
        yield {"users": users, "error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--all", action="store_true", help="more variants, slower ones")
    options = parser.parse_args()
    measure_all(options, lambda size, users: kept_going(size, users, options.all))


if __name__ == "__main__":
    main()
