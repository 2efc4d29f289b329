"""Whether rankings leave out what a user had before: the setting, resolved, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from models.data.sequences import SequenceData

MOST_REPEATS = 0.01
"""`auto` keeps seen items where a larger share of the events with a target behavior repeats an item."""


@dataclass(frozen=True)
class SeenItems:
    """What was decided about items that a user had before."""

    excluded: bool
    """Whether they are removed from the user's candidates."""
    reason: str
    """Why, in words: the setting, or what `auto` found."""

    @classmethod
    def resolve(cls, parts: Iterable[SequenceData], setting: bool | Literal["auto"]) -> SeenItems:
        """Resolve the setting; the sequences are gone through where it is `auto`.

        `auto` removes them where at most `MOST_REPEATS` of the events with a target behavior, of all users'
        whole histories, repeat an item that their user had with a target behavior before. So a few duplicated
        rows of a log change nothing, and no more than this share of the targets can become misses.
        """
        if setting != "auto":
            return cls(setting, "as set")
        repeats, events = np.sum([repeated_targets(part) for part in parts] or [(0, 0)], axis=0).tolist()
        excluded = repeats <= MOST_REPEATS * events
        limit = f"{'at most' if excluded else 'more than'} {MOST_REPEATS:.0%}"
        return cls(excluded, f"auto: {repeats:,} of {events:,} target events repeat an item, {limit}")


def repeated_targets(data: SequenceData) -> tuple[int, int]:
    """Events of known items with a target behavior that repeat an item of their user, and all such events."""
    chosen = data.is_judged() & (data.item >= data.about.first_item)
    user = np.repeat(np.arange(data.num_sequences), data.lengths)[chosen]
    pairs = np.sort(user * data.about.num_item_ids + data.item[chosen])
    return int((pairs[1:] == pairs[:-1]).sum()), len(pairs)
