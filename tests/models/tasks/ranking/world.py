"""A small data set whose events have behaviors, values and a feature, and models that rank on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from models.build import build_task
from models.config import RunConfig, load_config
from models.tasks.ranking.task import RankingTask
from tests.models.shards import User, World, write_shards

ITEMS, FIRST, N = 6, 2, 9
ALL = {"kind": "temporal", "targets": "all", "valid_at": 0, "test_at": 0}
DEVICE = FeatureEntry(name="device", kind="categorical", encoding="vocabulary", vocabulary_size=4)
PRICE = FeatureEntry(name="price", kind="numeric", encoding="standardize")
SETTINGS = [
    "task.kind=ranking",
    "task.label=value>=4",
    "model.dim=8",
    "model.blocks=2",
    "model.dropout=0",
    f"model.max_length={N}",
    "train.device=cpu",
    "train.epochs=2",
    "train.batch_sequences=8",
    "evaluation.batch_size=3",
    "evaluation.bootstrap=0",
    "loader.threads=0",
]


def settings(*overrides: str) -> RunConfig:
    """Heads of small layers, where a head has any."""
    hidden = [] if "task.head=dot" in overrides else ["task.head_dims=[8]"]
    return load_config("default", [*SETTINGS, *hidden, *overrides])


def events_of(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Users of 1 to 14 events, some values missing; a third of them has no training part."""
    rng = np.random.default_rng(seed)
    users = []
    for number in range(count):
        length = int(rng.integers(1, 15))
        train, valid = (0, 0) if number % 3 == 2 else sorted(rng.integers(0, length + 1, 2).tolist())
        value = rng.integers(1, 6, length).astype(float)
        value[rng.random(length) < 0.1] = math.nan
        users.append(
            {
                "item": (FIRST + rng.integers(0, ITEMS, length)).tolist(),
                "behavior": rng.integers(1, 4, length).tolist(),
                "timestamp": np.cumsum(rng.integers(0, 5000, length)).tolist(),
                "value": value.tolist(),
                "device": rng.integers(1, 4, length).tolist(),
                "price": rng.normal(size=length).round(3).tolist(),
                "train_end": train,
                "valid_end": valid,
            }
        )
    return users


def write(folder: Path, users: Sequence[dict[str, Any]], split: dict[str, Any] = ALL) -> ShardFolder:
    """Their shards."""
    rows = [
        User(
            user["item"],
            user["train_end"],
            user["valid_end"],
            behavior=user["behavior"],
            timestamp=user["timestamp"],
        )
        for user in users
    ]
    kinds = {"value": pa.float32(), "device": pa.int32(), "price": pa.float32()}
    world = World(
        num_items=ITEMS,
        behaviors=("view", "cart", "buy"),
        targets=("buy",),
        split=split,
        event_features=[DEVICE, PRICE],
        event_columns={
            name: pa.array([value for user in users for value in user[name]], kind)
            for name, kind in kinds.items()
        },
    )
    return open_shards(write_shards(folder, rows, world))


def task_of(shards: ShardFolder, *overrides: str) -> RankingTask:
    """With weights that are large enough to tell everything apart."""
    import torch

    task = build_task(settings(*overrides), shards)
    assert isinstance(task, RankingTask)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            zero = (
                parameter[:1].clone()
                if name.endswith(("item.weight", "behavior.weight", "table.weight", "buckets.weight"))
                else None
            )
            parameter.normal_(0.0, 0.4, generator=generator)
            if zero is not None:
                parameter[:1] = 0.0
    for member in task.members:
        member.offset.fill_(0.25)
    task.objective.eval()
    return task
