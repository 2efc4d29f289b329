"""What the demo's served model recommends to a few people, in words that a person can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.synthetic import SyntheticLog
from models.serving.load import load_model
from models.serving.recommend.ids import time_span

SHOWN_EVENTS, SHOWN_ITEMS = 5, 5


def recommended_to_people(run: Path, log: SyntheticLog, raw: Path, count: int = 3) -> list[dict[str, Any]]:
    """What the first users did last, and what is recommended to them when the log ends.

    Args:
        run: of the served model.
        log: the generated log.
        raw: the folder that it was written to, with the items' titles.
        count: users.

    Returns:
        Of each `user`, `lately`: behavior and title of the last events, the newest last; and `recommended`:
        `rank`, `title`, `category` and `item` of what the model expects them to do next by the target
        behavior.
    """
    model, users = load_model(run), log.users["user"].combine_chunks().slice(0, count)
    span, asked = time_span(model.shards), {}
    if span is not None and model.config.model.time == "known":
        asked = {"at": span[1]}
    found = model.recommend(
        users, k=min(SHOWN_ITEMS, len(model.item_ids)), columns=["title", "category"], items=raw, **asked
    ).table()
    return [
        {
            "user": user,
            "lately": _lately(log, user),
            "recommended": [
                {name: row[name] for name in ("rank", "title", "category", "item")}
                for row in found.filter(pc.equal(found["user"], user)).to_pylist()
            ],
        }
        for user in users.to_pylist()
    ]


def people_tables(people: list[dict[str, Any]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """A caption, and rows of what somebody did last beside what is recommended to them."""
    tables = []
    for person in people:
        lately = [f"{event['behavior']}: {event['title']}" for event in reversed(person["lately"])]
        wanted = [f"{row['rank']}. {row['title']}" for row in person["recommended"]]
        size = max(len(lately), len(wanted))
        columns = (column + [""] * (size - len(column)) for column in (lately, wanted))
        tables.append((f"user {person['user']}", list(zip(*columns, strict=True))))
    return tables


def _lately(log: SyntheticLog, user: int) -> list[dict[str, str]]:
    """Users stand one after another in the log, each in order of time."""
    rows = np.flatnonzero(pc.equal(log.events["user"], user).to_numpy(zero_copy_only=False))[-SHOWN_EVENTS:]
    events = log.events.take(pa.array(rows))
    titles = log.items["title"].take(pc.index_in(events["item"], value_set=log.items["item"]))
    return [
        {"behavior": behavior, "title": title}
        for behavior, title in zip(events["behavior"].to_pylist(), titles.to_pylist(), strict=True)
    ]
