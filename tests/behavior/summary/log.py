"""A small log, and the shards that are made of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BEHAVIORS = ("view", "cart", "buy")
DOMAINS = ("books", "toys")
BEGIN = 1_714_521_600  # 1 May 2024
DAY = 86_400


@dataclass(frozen=True)
class Event:
    user: str
    item: str
    time: int
    behavior: str
    domain: str
    device: str


def make_log(events: int = 900, seed: int = 3) -> list[Event]:
    """Events of thirty days; users and items of very different activity."""
    source = random.Random(seed)
    return [
        Event(
            f"u{int(source.paretovariate(0.8)) % 60}",
            f"i{int(source.paretovariate(0.7)) % 80}",
            BEGIN + source.randrange(30 * DAY),
            source.choice(BEHAVIORS),
            source.choice(DOMAINS),
            source.choice(["phone", "tv", ""]),
        )
        for _ in range(events)
    ]


LOG = make_log()


def write_log(path: Path, log: list[Event]) -> None:
    lines = [f"{e.user},{e.item},{e.time},{e.behavior},{e.domain},{e.device}\n" for e in log]
    path.write_text("user,item,time,behavior,domain,device\n" + "".join(lines))


def write_spec(folder: Path, *, timed: bool = True, domains: bool = True, **changes: Any) -> Path:
    columns = {"user": "user", "item": "item"}
    columns |= {"timestamp": "time"} if timed else {}
    columns |= {"domain": "domain"} if domains else {}
    data: dict[str, Any] = {
        "name": "log",
        "events": {
            "files": "log.csv",
            "columns": columns,
            "behavior": {"column": "behavior"},
            "features": [{"name": "device"}],
        },
        "timestamp_unit": "s" if timed else "none",
        "behaviors": list(BEHAVIORS),
        "targets": ["buy"],
        "shards": 5,
        **({"domains": list(DOMAINS)} if domains else {}),
        **changes,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def prepared(folder: Path, **settings: Any) -> Path:
    """Shards of `LOG` in a new folder."""
    from behavior.spec.dataset_spec import load_spec
    from pipelines.prepare import prepare

    folder.mkdir()
    write_log(folder / "log.csv", LOG)
    spec, base = load_spec(write_spec(folder, **settings))
    prepare(spec, base, folder / "out")
    return folder / "out"
