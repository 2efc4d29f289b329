"""What is evaluated: the target events of a split, and the items that their users interacted with before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior.errors import UserError
from behavior.steps.repeats import latest_earlier
from models.data.judged import Split, judged_events, part_of_split
from models.data.kept import InputBehaviors, KeptEvents
from models.data.sequences import Int8Array, Int64Array, SequenceData

__all__ = ["Split", "Targets", "earlier_behavior", "evaluated_users", "find_targets", "seen_items"]


@dataclass(frozen=True)
class Targets:
    """Events to predict, and the histories to predict them from."""

    sequence: Int64Array  # [targets] numbers within the data
    stop: Int64Array  # [targets] where the history ends, exclusive, in the flat columns
    event: Int64Array  # [targets] index of the target in the flat columns; at `stop` but for baskets

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Int64Array | slice) -> Targets:
        """The targets numbered by `rows`, in that order."""
        return Targets(self.sequence[rows], self.stop[rows], self.event[rows])


def find_targets(data: SequenceData, split: Split) -> Targets:
    """The target-behavior events of every sequence's validation or test part: the first, or all of them.

    The history of a target is everything before it; where the part is a basket, everything before the basket.
    It may be empty. Users without a target are not evaluated.
    """
    if split not in ("valid", "test"):
        raise UserError(f"there is no split '{split}'", fix="use valid or test")
    sequence, event = judged_events(data, split)
    cut, _ = part_of_split(data, split)
    stop = (data.offsets[:-1] + cut)[sequence] if data.about.ends_before_part else event
    return Targets(sequence, stop, event)


def evaluated_users(data: SequenceData, split: Split) -> int:
    """Users of whom a target is ranked: it has a history."""
    targets = find_targets(data, split)
    return len(np.unique(targets.sequence[targets.stop > data.offsets[targets.sequence]]))


def targets_without_inputs(data: SequenceData, split: Split, behaviors: InputBehaviors) -> int:
    """Targets with a history of which no event is an input."""
    targets = find_targets(data, split)
    kept = KeptEvents(behaviors).of(data)
    if kept is None:
        return 0
    begin = data.offsets[targets.sequence]
    inputs = np.searchsorted(kept, targets.stop) - np.searchsorted(kept, begin)
    return int(((inputs == 0) & (targets.stop > begin)).sum())


def earlier_behavior(data: SequenceData, targets: Targets) -> Int8Array:
    """The behavior of the latest event, in the whole history of each target, that has the target's item.

    Returns:
        [targets] behavior ids; 0 where the history does not have the item, or nobody knows which it is.
    """
    item, about = data.item, data.about
    begin = data.offsets[targets.sequence]
    event = latest_earlier(item, begin, targets.stop, item[targets.event], about.first_item)
    return np.where(event < 0, 0, data.behavior[event]).astype(np.int8)


def seen_items(data: SequenceData, targets: Targets) -> tuple[Int64Array, Int64Array]:
    """Known items with an evaluated behavior anywhere in the whole history of each target.

    Returns:
        rows (into `targets`) and item ranks (id minus the first known id), both [pairs]; pairs may repeat.
    """
    begin = data.offsets[targets.sequence]
    lengths = targets.stop - begin
    rows = np.repeat(np.arange(len(targets)), lengths)
    event = np.arange(len(rows)) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    first_item = data.about.first_item
    counts = data.about.is_judged()[data.behavior[event]] & (data.item[event] >= first_item)
    return rows[counts], data.item[event[counts]].astype(np.int64) - first_item
