"""What is measured of training steps, how long it takes, and where it is written down."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.profiling import kernel_times
from models.losses import retrieval

TOKENS, ITEMS, BLOCKS, WIDTH, LONGEST, SHARED = 65_536, 200_000, 4, 256, 512, 4_096
FIRST = 2
NEGATIVES: dict[str, dict[str, Any]] = {
    "shared": {"sharing": "batch", "count": SHARED},
    "in batch, logQ": {"source": "in_batch", "logq": True},
}
Row = dict[str, Any]
Run = Callable[[], object]


class Results:
    """Printed, and written down at once."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}
        self.since = time.perf_counter()

    def add(self, part: str, row: Row) -> None:
        """Note one line of a part."""
        self.rows.setdefault(part, []).append(row)
        print(f"{time.perf_counter() - self.since:6.1f} s  {part}: {row}", flush=True)
        if "OUT" in os.environ:
            Path(os.environ["OUT"], "training_steps.json").write_text(json.dumps(self.rows, indent=1))


def milliseconds(run: Run, repeats: int = 8) -> float:
    """A run's time on the GPU, which is kept busy until all runs are queued, or with the host where it waits
    for that."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repeats


def longest(run: Run, count: int) -> list[tuple[str, float, float]]:
    """Names, milliseconds and number of runs of the kernels that take longest, and the sum of all."""
    found = kernel_times(run, 3, before=1)
    total = ("all", round(sum(one.ms for one in found), 3), sum(one.times for one in found))
    return [total, *((one.name[:70], round(one.ms, 3), one.times) for one in found[:count])]


def zipf(count: int, items: int, seed: int = 0) -> Tensor:
    """[count] item ranks."""
    random = np.random.default_rng(seed)
    sums = np.cumsum((np.arange(items) + 10.0) ** -1.05)
    return torch.from_numpy(np.searchsorted(sums, random.random(count) * sums[-1])).clamp(max=items - 1)


@contextmanager
def in_chunks() -> Iterator[None]:
    """Losses go the way that they have without the kernels of shared negatives."""
    own = retrieval.shared_losses
    retrieval.shared_losses = lambda *_, **__: None  # type: ignore[assignment]
    try:
        yield
    finally:
        retrieval.shared_losses = own


CHANGES = ("passes", "at once", "pieces", "tiles", "ahead", "lazy")
"""What can be turned off: single passes around embeddings and losses, gradients of all look-ups of the item
table at once, sums of popular items in pieces, other tiles of the loss, its biases read ahead, and its sums
of shares that are seldom brought up to date."""
_off: set[str] = set()


def is_off(name: str) -> bool:
    """Whether one of `CHANGES` is turned off now."""
    return name in _off


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Some of `CHANGES` are turned off."""
    from models.distributed.tables import WholeTable
    from models.gpu.row_sums import launch
    from models.gpu.tile_shape import TileShape
    from models.layers import linear, token_rows, unit
    from models.losses import kernels
    from models.losses.kernels import shared_function

    former = {256: TileShape(128, 64, 8, 2)}
    others: dict[str, list[tuple[Any, str, object]]] = {
        "passes": [
            *((module, "fits_rows", lambda *_: False) for module in (linear, token_rows, unit)),
            (kernels, "pair_scores", lambda query, vectors, scale: (query * vectors).sum(-1) * scale),
        ],
        "at once": [(WholeTable, "sum_at_once", lambda _: None)],
        "pieces": [(launch, "PIECE", 1 << 40)],
        "tiles": [
            (shared_function, cuts, {**getattr(shared_function, cuts), **former})
            for cuts in ("_LOSS", "_ITEMS")
        ],
        "ahead": [(shared_function, "_AHEAD", False)],
        "lazy": [(shared_function, "_LAZY", False)],
    }
    with ExitStack() as stack:
        for name in names:
            for where, what, other in others[name]:
                stack.enter_context(patch.object(where, what, other))
        _off.update(names)
        stack.callback(_off.clear)
        yield
