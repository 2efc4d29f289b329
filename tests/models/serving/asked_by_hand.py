"""Histories and questions by hand."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from models.serving.load import TrainedModel
from models.serving.score import History
from tests.models.serving.recommend_world import BEHAVIORS, events


def log_of() -> dict[str, list[tuple[str, str, int]]]:
    """user -> item, behavior, time, in the order of time and of the log."""
    found: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for user, *event in events():
        found[user].append(tuple(event))  # type: ignore[arg-type]
    return {user: sorted(own, key=lambda event: event[2]) for user, own in found.items()}


def rows_by_user(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["user"]].append(row)
    return dict(found)


def asked_by_hand(
    model: TrainedModel, own: list[tuple[str, str, int]], at: int, behavior: str
) -> list[float]:
    """Scores of all items by the public way for single histories."""
    index = {one: place for place, one in enumerate(model.item_ids.to_pylist())}
    first = model.about.first_item
    items = [index[item] + first if item in index else unknown(item) for item, _, _ in own]
    history = History(
        items,
        [BEHAVIORS.index(name) + 1 for _, name, _ in own],
        [time for *_, time in own],
        next_timestamp=at,
    )
    return model.score([history], behavior=behavior)[0].double().tolist()


def unknown(item: str) -> int:
    """FNV-1a and the finalizer of MurmurHash3 (docs/shards.md), of two ids of unknown items."""
    value, whole = 0xCBF29CE484222325, 2**64 - 1
    for byte in item.encode():
        value = (value ^ byte) * 0x100000001B3 & whole
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor & whole
    return 1 + (value ^ value >> 33) % 2
