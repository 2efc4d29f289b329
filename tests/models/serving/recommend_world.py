"""A small log with behaviors, times, features of items and repeats, its data set and runs on it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import behavior
from models.config import load_config
from models.training import train

GENRES = ("Drama", "Comedy", "Western")
BEHAVIORS = ("view", "buy")
ITEMS = 30


def events(seed: int = 0, users: int = 40) -> list[tuple[str, str, str, int]]:
    """user, item, behavior, time: some times tie, and items repeat."""
    draw = random.Random(seed)
    rows = []
    for user in range(users):
        time = 1_000_000_000 + draw.randrange(10_000)
        for _ in range(draw.randrange(4, 16)):
            time += draw.choice((0, 30, 4_000))
            item = min(draw.randrange(ITEMS), draw.randrange(ITEMS))
            rows.append((f"u{user}", f"i{item}", draw.choice(BEHAVIORS), time))
    return rows


def genres_of(item: int) -> list[str]:
    return sorted({GENRES[item % 3], GENRES[item % 2]})


def write_raw(folder: Path, **changes: Any) -> Path:
    """The log, its items and its spec."""
    folder.mkdir(parents=True)
    lines = [",".join(map(str, row)) for row in events()]
    (folder / "log.csv").write_text("\n".join(["user,item,behavior,time", *lines, ""]))
    items = [f"i{item},{'|'.join(genres_of(item))},{GENRES[item % 3]},{item}.5" for item in range(ITEMS)]
    (folder / "items.csv").write_text("\n".join(["item,genres,main,price", *items, ""]))
    spec = {
        "name": "small",
        "events": {
            "files": "log.csv",
            "columns": {"user": "user", "item": "item", "timestamp": "time"},
            "behavior": {"column": "behavior"},
        },
        "timestamp_unit": "s",
        "behaviors": list(BEHAVIORS),
        "targets": ["buy"],
        "vocabulary": {"min_count": 3, "oov": 2},
        "items": {
            "files": "items.csv",
            "id": "item",
            "features": [
                {"name": "genres", "kind": "multi_categorical", "separator": "|"},
                {"name": "main"},
                {"name": "price", "kind": "numeric"},
            ],
        },
        "shards": 3,
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec | changes))
    return folder / "spec.yaml"


def prepare(folder: Path, **changes: Any) -> Path:
    spec = write_raw(folder / "raw", **changes)
    behavior.prepare(str(spec), str(folder / "data"))
    return folder / "data"


SMALL = ("model.dim=8", "model.max_length=6", "model.blocks=1", "train.epochs=1", "train.device=cpu")


def run_on(data: Path, out: Path, settings: Sequence[str] = ()) -> Path:
    train(load_config("default", [*SMALL, "train.batch_sequences=16", *settings]), data, out)
    return out
