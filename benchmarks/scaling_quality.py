"""Data quality of the fractions of real logs that `benchmarks/grids/fractions-*.yaml` train on.

    PYTHONPATH=. python benchmarks/scaling_quality.py SHARDS --json benchmarks/results/scaling-quality.json

SHARDS has the shard folders `ml-1m`, `taobao` and `completejourney`. Of each fraction of the users, and of
the oldest events, the entropies of what training sees.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from behavior.quality import quality_of_arrays
from behavior.shards.folder import open_shards
from models.data.loading.fraction import FractionBy, fraction_of
from models.data.loading.source import ShardSource

FRACTIONS = (0.125, 0.25, 0.5, 1.0)
DATA = ("ml-1m", "taobao", "completejourney")


def quality_of_fraction(shards: Path, fraction: float, by: FractionBy) -> dict[str, Any]:
    """What training sees of a fraction: its measures with intervals."""
    items, lengths = [], []
    for data in fraction_of(ShardSource(open_shards(shards)), fraction, by):
        items.append(data.item[data.in_training()])
        lengths.append(data.train_end)
    length = np.concatenate(lengths)
    offsets = np.concatenate(([0], np.cumsum(length[length > 0])))
    return quality_of_arrays(offsets, np.concatenate(items), part="train").to_record()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/scaling-quality.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for name in DATA:
        kinds: tuple[FractionBy, ...] = ("users",) if name == "ml-1m" else ("users", "time")
        for by in kinds:
            for fraction in FRACTIONS:
                own = quality_of_fraction(options.shards / name, fraction, by)
                found[f"{name} {by} {fraction:g}"] = own
                values = {key: round(one["value"], 3) for key, one in own["estimates"].items()}
                print(name, by, fraction, f"{own['events']:,} events of {own['users']:,} users", values)
    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
