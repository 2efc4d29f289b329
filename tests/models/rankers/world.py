"""A small log whose labels follow from users and items: star ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from tests.models.shards import User, World, write_shards

USERS, ITEMS, EVENTS = 120, 25, 24


def rated(folder: Path, split: str = "temporal") -> ShardFolder:
    """Users of two tastes rate items of two kinds, one of which they like: stars of 1 to 5.

    Items tell their kind. Training events are 2/3 of each user's, validation and test events 1/6 each.
    """
    generator = np.random.default_rng(0)
    taste = generator.integers(0, 2, USERS)
    kind = np.arange(ITEMS) % 2
    users, values = [], []
    for user in range(USERS):
        item = generator.choice(ITEMS, EVENTS, replace=False)
        mean = 3.0 + 1.2 * np.where(kind[item] == taste[user], 1, -1) + 0.5 * generator.normal()
        values.append(np.clip(np.round(mean + 0.7 * generator.normal(size=EVENTS)), 1, 5))
        users.append(User((item + 2).tolist(), 16, 20, timestamp=range(EVENTS)))
    described = {"kind": split} | (
        {"valid_at": 16, "test_at": 20, "targets": "all"} if split == "temporal" else {}
    )
    world = World(
        num_items=ITEMS,
        behaviors=("rate",),
        targets=("rate",),
        split=described,
        item_features=(FeatureEntry(name="kind", kind="categorical", vocabulary_size=4),),
        item_columns={"kind": pa.array(kind + 2, pa.int32())},
        event_columns={"value": pa.array(np.concatenate(values), pa.float32())},
    )
    return open_shards(write_shards(folder, users, world))
