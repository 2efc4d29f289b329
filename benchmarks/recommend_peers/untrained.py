"""Models of random weights, which recommend in the time of trained ones; a large data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml

import behavior
from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import load_config
from models.gpu.device import pick_device
from models.serving.load import TrainedModel


def untrained(data: Path, recipe: str, settings: Sequence[str], device: str) -> TrainedModel:
    """What `load_model` would give right after the weights were drawn."""
    shards, config = open_shards(data), load_config(recipe, settings)
    torch.manual_seed(0)
    task = build_task(config, shards)
    task.objective.to(pick_device(device)).eval()  # type: ignore[arg-type]
    return TrainedModel(data / "untrained", config, task, shards, "best", {})


def large_data(folder: Path, users: int, items: int, events: int) -> Path:
    """A log in which every item occurs and few do often, prepared.

    Args:
        folder: for raw files and shards; shards that are there already stay.
        users: of the log.
        items: of the log.
        events: of each user.
    """
    if (folder / "data" / "manifest.json").exists():
        return folder / "data"
    draw, count = np.random.default_rng(0), users * events
    often = (items * draw.random(count, np.float32) ** 3).astype(np.int32)
    often[:items] = draw.permutation(items)[:count]
    item = draw.permutation(often)
    user = np.repeat(np.arange(users, dtype=np.int32), events)
    time = 1_700_000_000 + draw.integers(0, 86_400 * 60, count)
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"user": user, "item": item, "time": time}), raw / "log.parquet")
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    spec = {
        "name": "large",
        "events": {"files": "log.parquet", "columns": columns, "behavior": "view"},
        "timestamp_unit": "s",
        "behaviors": ["view"],
        "id_types": {"user": "integer", "item": "integer"},
    }
    (raw / "spec.yaml").write_text(yaml.safe_dump(spec))
    behavior.prepare(raw / "spec.yaml", folder / "data")
    return folder / "data"
