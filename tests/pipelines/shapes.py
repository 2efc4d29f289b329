"""Logs of every shape, and their specs."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

from behavior.config import parse_config
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import DatasetSpec
from pipelines.runner import RunnerOptions
from tests.pipelines.by_hand import Event, Rows, by_hand, rounded
from tests.pipelines.content import content

COLUMNS = {"user": "user", "item": "item", "timestamp": "timestamp"}

ONE = RunnerOptions("DirectRunner", workers=1)

START = 1_700_000_000


def make_log(
    seed: int, events: int, users: int = 12, items: int = 15, domain: str | None = None
) -> list[Event]:
    """Events out of order, many with equal times, some of them twice; some features are missing."""
    rng = random.Random(seed)
    log: list[Event] = []
    for _ in range(events):
        event = {
            "user": f"u{rng.randrange(users)}",
            "item": str(int(rng.expovariate(0.25)) % items),
            "behavior": rng.choice(["view", "view", "buy"]),
            "timestamp": START + rng.randrange(80),
            "device": rng.choice([None, "phone", "phone", "desk", "tv", f"rare{rng.randrange(9)}"]),
            "price": rng.choice([None, round(rng.uniform(-5, 60), 2), float(rng.randrange(4) * 10)]),
            "shop": rng.choice([None, "s1", "s2", "Zürich"]),
            "domain": domain,
        }
        log += [event, event] if rng.random() < 0.1 else [event]
    return log


def write_log(path: Path, log: list[Event], columns: list[str] | None = None) -> None:
    names = columns or ["user", "item", "behavior", "timestamp", "device", "price", "shop"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(log)


def spec_of(**changes: Any) -> DatasetSpec:
    data: dict[str, Any] = {
        "name": "shapes",
        "events": {"files": "log*.csv", "columns": COLUMNS, "behavior": {"column": "behavior"}},
        "timestamp_unit": "s",
        "behaviors": ["view", "buy"],
        "targets": ["buy"],
        "shards": 3,
    }
    return parse_config(DatasetSpec, data | changes, where="test")


def check(folder: Path | Folder, expected: dict) -> None:
    """The data set says what was worked out by hand, items in the same order."""
    found = rounded(content(folder))
    expected = rounded(expected)
    for part, value in expected.items():
        assert found[part] == value, part
    assert list(found["items"]) == list(expected["items"])


FEATURES: list[dict[str, Any]] = [
    {"name": "device"},
    {"name": "often", "column": "device", "min_count": 12},
    {"name": "top", "column": "device", "max_size": 2},
    {"name": "price", "kind": "numeric"},
    {"name": "magnitude", "column": "price", "kind": "numeric", "transform": "log"},
    {"name": "raw", "column": "price", "kind": "numeric", "transform": "none"},
    {
        "name": "band",
        "column": "price",
        "kind": "numeric",
        "transform": "buckets",
        "boundaries": [0, 10.1, 20],
    },
    {"name": "fifth", "column": "price", "kind": "numeric", "transform": "buckets", "quantiles": 5},
    {"name": "shop", "kind": "hashed", "hash_size": 5},
]


def with_features(log: list[Event], lost: tuple[str, ...] = ()) -> list[Event]:
    """Events with the values of all `FEATURES`; columns that are lost are missing everywhere."""
    there = [f for f in FEATURES if f.get("column", f["name"]) not in lost]
    blank = {f["name"]: None for f in FEATURES}
    return [{**e, **blank, **{f["name"]: e[f.get("column", f["name"])] for f in there}} for e in log]


def write_domains(folder: Path) -> tuple[list[Event], Rows, dict[str, Any]]:
    """Three domains in two groups of files: one named by the group, two by a column; and tables of items.

    Returns:
        The log, the features of the items, and what a spec needs beside `domain_ids` and item tables.
    """
    books, rng = make_log(5, 150, items=9, domain="books"), random.Random(6)
    mixed = [{**event, "domain": rng.choice(["toys", "games"])} for event in make_log(7, 200, items=9)]
    write_log(folder / "books.csv", books)
    write_log(folder / "mixed.csv", mixed, ["user", "item", "behavior", "timestamp", "device", "domain"])
    source = {"behavior": {"column": "behavior"}, "features": [{"name": "device", "per_domain": True}]}
    columns = {**COLUMNS, "domain": "domain"}
    events = [
        {**source, "files": "mixed.csv", "columns": columns},
        {**source, "files": "books.csv", "columns": COLUMNS, "domain": "books"},
    ]
    table: Rows = {
        (domain, str(item)): {
            "brand": rng.choice([None, "lego", "penguin", "sega"]),
            "tags": rng.sample(["new", "used", "rare"], rng.randrange(4)),
            "size": rng.choice([None, float(rng.randrange(1, 50))]),
        }
        for domain in ("books", "toys", "games")
        for item in range(1, 12)
    }
    for domain in ("books", "toys", "games"):
        lines = [
            f"{item},{own['brand'] or ''},{'|'.join(own['tags'])},{own['size'] or ''}"
            for (name, item), own in table.items()
            if name == domain
        ]
        (folder / f"items-{domain}.csv").write_text("\n".join(["id,brand,tags,size", *lines, ""]))
    return mixed + books, table, {"events": events, "domains": ["books", "toys", "games"]}


ITEM_FEATURES = [
    {"name": "brand", "per_domain": True},
    {"name": "tags", "kind": "multi_categorical", "min_count": 4},
    {"name": "size", "kind": "numeric"},
]


def everything(folder: Path) -> tuple[DatasetSpec, dict]:
    """A spec with a bit of everything, and what it must come to."""
    log, table, common = write_domains(folder)
    mixed, books = ([e for e in log if (e["domain"] == "books") == own] for own in (False, True))
    device, others = {"name": "device", "per_domain": True, "min_count": 2}, FEATURES[1:]
    common["events"][0]["features"] = [device]
    common["events"][1]["features"] = [device, *others]
    domains = ("toys", "books", "games")
    spec = spec_of(
        **common,
        items=[
            {"files": f"items-{domain}.csv", "id": "id", "domain": domain, "features": ITEM_FEATURES}
            for domain in domains
        ],
        users={"files": "users.csv", "id": "id", "domain": "toys", "features": [{"name": "city"}]},
        domain_ids={"items": "separate", "users": "separate"},
        filters={"duplicates": True, "repeats": True, "start": START + 3, "min_item_events": 2},
        vocabulary={"min_count": 3, "oov": 2},
        sessions={"gap": 4},
        max_events=25,
        split={"kind": "next_basket"},
        shards=4,
    )
    (folder / "users.csv").write_text("id,city\nu1,Rome\nu2,Oslo\nu3,\nu4,Rome\n")
    users: Rows = {("toys", f"u{n}"): {"city": city} for n, city in ((1, "Rome"), (2, "Oslo"), (4, "Rome"))}
    lost = [{**e, **{f["name"]: None for f in others}} for e in mixed]
    full = [{**e, "device": own["device"]} for e, own in zip(with_features(books), books, strict=True)]
    return spec, by_hand(spec, lost + full, items=table, users=users)
