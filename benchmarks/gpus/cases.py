"""What steps are measured with: settings, sizes, and shards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BY_ROWS = ["optimizer.item_table=sparse_rowwise_adagrad", "optimizer.item_learning_rate=0.01"]
ROWWISE = ["optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.01"]
CAPTURED, DIVIDED = "train.cuda_graphs=true", "train.item_table=sharded"
CASES: dict[str, tuple[str, list[str]]] = {
    "200k adamw": ("small", [CAPTURED]),
    "200k adamw, divided": ("small", [CAPTURED, DIVIDED]),
    "200k by rows": ("small", [CAPTURED, *BY_ROWS]),
    "200k by rows, divided": ("small", [CAPTURED, *BY_ROWS, DIVIDED]),
    "10M by rows": ("large", [CAPTURED, *BY_ROWS]),
    "10M by rows, divided": ("large", [CAPTURED, *BY_ROWS, DIVIDED]),
    "10M rowwise": ("large", [CAPTURED, *ROWWISE]),
    "10M rowwise, divided": ("large", [CAPTURED, *ROWWISE, DIVIDED]),
    "200k adamw, not captured": ("small", ["train.cuda_graphs=false"]),
    "10M by rows, divided, not captured": ("large", ["train.cuda_graphs=false", *BY_ROWS, DIVIDED]),
}
"""Shards and settings, by name."""
ALONE = [["200k adamw", "10M by rows"], ["10M by rows", "200k adamw", "200k by rows"]]
"""Of one GPU: what the first one does, and the second."""
TOGETHER = [
    "200k adamw", "10M by rows, divided", "10M by rows", "200k by rows", "200k adamw, divided",
    "200k by rows, divided", "200k adamw, not captured",
]  # fmt: skip
WITHOUT = ["200k adamw, not captured", "10M by rows, divided, not captured"]
"""Where captured steps hang."""


@dataclass(frozen=True)
class Scale:
    """Sizes of all cases, and where they run."""

    device: str
    tokens: int
    """A step and process."""
    negatives: int
    large: int
    """Items of the larger catalog."""
    users: int
    """Of the shards for losses: steps of 256."""
    model: tuple[str, ...]
    precision: str
    before: int
    """Steps before anything is measured, in which sizes are captured."""
    window: int
    """Steps that are measured at once."""

    @property
    def common(self) -> list[str]:
        """Settings of all cases."""
        return [
            *self.model,
            "loss.negatives.sharing=batch",
            f"loss.negatives.count={self.negatives}",
            "loader.part=train+valid",
            "train.checkpoint_every_steps=1000000",
            f"train.device={self.device}",
        ]

    def settings(self, case: str) -> list[str]:
        """Of a case."""
        _, settings = CASES[case]
        return [*self.common, f"train.precision={self.precision}", *self.possible(settings)]

    def possible(self, settings: list[str]) -> list[str]:
        """Settings, less what a device cannot do."""
        return [one for one in settings if one != CAPTURED or self.device == "cuda"]


_SMALL = ("model.blocks=1", "model.dim=32", "model.heads=4", "model.max_length=64")
_FULL = ("model.blocks=4", "model.dim=256", "model.heads=4", "model.max_length=512")
SCALES = {
    "cuda": Scale("cuda", 65_536, 4_096, 10_000_000, 5_000, _FULL, "bf16-mixed", 90, 75),
    "cpu": Scale("cpu", 2_048, 128, 210_000, 1_200, _SMALL, "32-true", 5, 5),
}
SHARDS = ("small", "large", "few")


def make_data(folder: Path, events: int, device: str) -> None:
    """The shards of both catalogs, and of few users; by several processes at once."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["--folder", str(folder), "--events", str(events), "--on", device]
    made = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.two_gpus", "--make", name, *words])
        for name in (*SHARDS, "imports")
    ]
    codes = [one.wait() for one in made]  # of all, whatever the first is
    if any(codes):
        sys.exit("shards could not be made")


def make_shards(folder: Path, name: str, events: int, scale: Scale) -> None:
    """One of them; or, with `imports`, have a slow disk read once what training imports."""
    if name == "imports":
        import models.training.run  # noqa: F401

        return
    import behavior
    from benchmarks.prepare_peers.events import ITEMS, scattered, write_events

    spec = write_events(folder / f"{name}-log", 50 * scale.users if name == "few" else events, "parquet")
    if name == "large":
        count = scale.large - ITEMS
        behaviors = pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array(["pv"]))
        table = pa.table(
            {
                # The last 512 of 10,000 events of each user are trained on.
                "user": scattered(np.arange(count) // 10_000 + 100_000_000),
                "item": scattered(np.arange(ITEMS, scale.large)),
                "behavior": behaviors,
                "timestamp": 1_600_000_000_000 + np.arange(count) * 10,
            }
        )
        pq.write_table(table, spec.parent / "events-more.parquet", row_group_size=1_000_000)
    behavior.prepare(spec, folder / name)
