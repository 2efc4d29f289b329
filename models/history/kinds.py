"""The terms of history logits, by name, for settings: imports neither torch nor pydantic."""

from __future__ import annotations

from typing import Literal

HistoryTerm = Literal["product", "behavior", "time", "recency", "latest", "closed", "item"]

TERMS: dict[HistoryTerm, str] = {
    "product": "dot product of the query with a key of the past event",
    "behavior": "table, behavior of the past event by behavior to predict",
    "time": "table, time bucket between past event and prediction",
    "recency": "table, events since",
    "latest": "table like behavior's, where the item came again since",
    "closed": "table like behavior's, where the item has had a target behavior",
    "item": "table, a number an item",
}
"""By the name in `loss.history_terms`; the constant is always there."""

ONLY_ASKED: tuple[HistoryTerm, ...] = ("item",)
"""Terms that are there only where they are named: a number an item is soon learned by heart."""
