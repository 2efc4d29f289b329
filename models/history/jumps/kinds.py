"""The terms of jump logits, by name, for settings: imports neither torch nor pydantic."""

from __future__ import annotations

from typing import Literal

JumpTerm = Literal["product", "behavior", "time", "recency", "gap", "latest", "closed", "count"]

JUMP_TERMS: dict[JumpTerm, str] = {
    "product": "dot product of the query with a key of the past event",
    "behavior": "table, behavior of the past event by behavior to predict",
    "time": "table, time bucket between past event and prediction",
    "recency": "table, events since",
    "gap": "table, time bucket between the last event and prediction; of jump_training=joint",
    "latest": "table like behavior's, where the item came again since",
    "closed": "table like behavior's, where the item has had a target behavior",
    "count": "table, power of two of how often the item of the past event occurs",
}
"""By the name in `loss.jump_terms`; the constant is always there."""

JUMP_TERMS_ONLY_ASKED: tuple[JumpTerm, ...] = ("latest", "closed", "count")
"""Terms that are there only where they are named."""
