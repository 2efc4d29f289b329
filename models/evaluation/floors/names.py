"""Which floors there are, and why one makes no sense for a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.data.about import About

Counts = Literal["train", "train+valid"]
"""Whose events are counted: the training parts, or the validation parts, too."""

FLOORS = {
    "popularity": "items by their events",
    "markov": "what followed the last item most often",
    "recency": "the user's own items, the newest first",
    "frequency": "the user's own items by decayed counts",
    "open": "items with another behavior and no target behavior yet, the newest first",
    "cooccurrence": "what came near the last items, by decayed counts",
    "open+cooccurrence": "open items, then those of cooccurrence",
}
"""What each ranks first, in a few words."""


def check_names(names: Sequence[str]) -> None:
    """Check that all are floors.

    Raises:
        UserError: names the first that is none.
    """
    for name in names:
        if name not in FLOORS:
            raise UserError(f"there is no baseline '{name}'", fix=did_you_mean(name, list(FLOORS)))


def reason_against(name: str, about: About, *, exclude_seen: bool) -> str | None:
    """Why a floor makes no sense for a data set; None where it does."""
    only_targets = len(set(about.target_behaviors)) == about.num_behaviors
    if name in ("open", "open+cooccurrence") and only_targets:
        return "every behavior is a target: no item waits for one"
    if name in ("recency", "frequency") and only_targets and exclude_seen:
        return "seen items are removed, and with them all items of a history"
    return None


def check_counts(counts: str, split: str) -> None:
    """Check which events are counted.

    Raises:
        UserError: there are none of that name, or the targets of the split would be among them.
    """
    if counts not in ("train", "train+valid"):
        raise UserError(f"there are no counts '{counts}'", fix="use train or train+valid")
    if counts == "train+valid" and split == "valid":
        raise UserError(
            "baselines that have counted the validation targets know what they are asked on the valid split",
            where="counts=train+valid",
            fix="use counts=train, or the test split",
        )
