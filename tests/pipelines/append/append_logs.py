"""Logs that are added to a data set, its spec, and what is left on disk."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from behavior.config import parse_config
from behavior.spec.dataset_spec import DatasetSpec

DEVICES = ("phone", "tablet", "desk", "")
HEADER = "user,item,action,time,device,price,shop\n"


def write_events(path: Path, seed: int, users: int, items: int, events: int) -> None:
    """A CSV file with ties in time, missing devices and prices, and one bad line."""
    rng = random.Random(seed)
    lines = ["user,item,action,time,device,price,shop"]
    for _ in range(events):
        price = rng.choice(["", f"{rng.random() * 50:.2f}"])
        lines.append(
            f"u{rng.randrange(users)},{rng.randrange(items)},{rng.choice(['view', 'buy'])},"
            f"{1000 + rng.randrange(300)},{rng.choice(DEVICES)}{rng.randrange(3)},{price},s{rng.randrange(9)}"
        )
    lines[7:7] = ["u1,1,view"]
    path.write_text("\n".join(lines) + "\n")


SPEC: dict[str, Any] = {
    "name": "growing",
    "events": {
        "files": "old-*.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        "behavior": {"column": "action"},
        "features": [
            {"name": "device"},
            {"name": "price", "kind": "numeric", "transform": "log"},
            {"name": "band", "column": "price", "kind": "numeric", "transform": "buckets",
             "boundaries": [5, 20]},
            {"name": "shop", "kind": "hashed", "hash_size": 4},
        ],
    },
    "timestamp_unit": "s",
    "behaviors": ["view", "buy"],
    "targets": ["buy"],
    "items": {"files": "items.csv", "id": "item", "features": [{"name": "brand"}]},
    "sessions": {"gap": 20},
    "shards": 5,
    "max_rejects": 0.1,
}  # fmt: skip


def spec_of(**changes: Any) -> DatasetSpec:
    return parse_config(DatasetSpec, SPEC | changes, where="test")


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def change_manifest(out: Path, **changes: Any) -> None:
    path = out / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
