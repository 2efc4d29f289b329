"""Items with a brand, tags and a size, for tests of counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from tests.models.shards import User, World, write_shards
from tests.models.tasks.ranking.world import ALL, FIRST, ITEMS

BRAND = [2, 3, 2, 3, 4, 2]
TAGS = [[2, 3], [3], [2, 4, 5], [], [5], [3, 4]]


def write(folder: Path, users: list[dict[str, Any]], unit: str = "s") -> ShardFolder:
    """Shards of users' events, in parts that end where each user says."""
    features = [
        FeatureEntry(name="brand", kind="categorical", encoding="vocabulary", vocabulary_size=5),
        FeatureEntry(name="tags", kind="multi_categorical", encoding="hash", vocabulary_size=6),
        FeatureEntry(name="size", kind="numeric", encoding="standardize"),
    ]
    world = World(
        num_items=ITEMS,
        behaviors=("view", "cart", "buy"),
        targets=("buy",),
        timestamp_unit=unit,
        split=ALL if unit != "none" else {"kind": "leave_one_out"},
        item_features=features,
        item_columns={
            "brand": pa.array(BRAND, pa.int32()),
            "tags": pa.array(TAGS, pa.list_(pa.int32())),
            "size": pa.array([0.5] * ITEMS, pa.float32()),
        },
        event_columns={"value": pa.array([v for user in users for v in user["value"]], pa.float32())},
    )
    rows = [
        User(user["item"], user["train_end"], user["valid_end"], user["behavior"], user["timestamp"])
        for user in users
    ]
    return open_shards(write_shards(folder, rows, world))


def values_of(item: int, name: str) -> list[int]:
    """What a counter of this name counts by, for an item: ids of one or several values."""
    place = item - FIRST
    return {"user": [0], "item": [item], "brand": [BRAND[place]], "tags": TAGS[place] or [1]}[name]
