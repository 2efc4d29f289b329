"""A small log in which users return to items, and its shards."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import yaml

import behavior

SPEC = {
    "name": "shop",
    "events": {"files": "log.csv", "columns": {"user": "user", "item": "item", "timestamp": "time"}},
    "timestamp_unit": "s",
    "behaviors": ["interact"],
    "targets": ["interact"],
    "shards": 4,
}
Log = list[tuple[str, str, int]]


def make_log(events: int = 1200, users: int = 60, seed: int = 0) -> Log:
    """Few items, so that they come again; users of very different activity."""
    draw = random.Random(seed)
    return [
        (f"u{int(draw.paretovariate(0.8)) % users}", f"i{int(draw.paretovariate(0.6)) % 50}", 1000 + number)
        for number in range(events)
    ]


def prepared(folder: Path, log: Log, **settings: object) -> Path:
    """Shards of a log in a new folder."""
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text("user,item,time\n" + "".join(f"{u},{i},{t}\n" for u, i, t in log))
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC | settings))
    behavior.prepare(folder / "spec.yaml", folder / "shards")
    return folder / "shards"


def training_histories(log: Log) -> list[list[str]]:
    """By leave-one-out: the last two events of users of three or more are targets."""
    histories: dict[str, list[str]] = defaultdict(list)
    for user, item, _ in log:
        histories[user].append(item)
    return [own[:-2] if len(own) >= 3 else own for own in histories.values()]
