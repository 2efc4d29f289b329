"""How much of a data set repeats: events, and targets, whose item their user had before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.shards.manifest import Manifest
from behavior.steps.repeats import latest_earlier, previous_behaviors
from behavior.steps.splits import evaluated_targets


@dataclass(frozen=True)
class Repeats:
    """Events counted by the behavior that their item had when the user had it last.

    Attributes:
        events: at 0 those whose item the user did not have before, or nobody knows. [behaviors + 1] int64
        valid, test: the same of the targets that have a history, and of what stands before them, or before
            their basket. [behaviors + 1] int64
    """

    events: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    @classmethod
    def none(cls, behaviors: int) -> Repeats:
        """Of no events."""
        return cls(*(np.zeros(behaviors + 1, np.int64) for _ in range(3)))

    def __add__(self, other: Repeats) -> Repeats:
        return Repeats(self.events + other.events, self.valid + other.valid, self.test + other.test)


def count_repeats(sequences: pa.Table, manifest: Manifest) -> Repeats:
    """The repeats in some sequences, as the evaluation of models counts them.

    Args:
        sequences: with `item`, `behavior`, `train_end` and `valid_end`; in one chunk.
        manifest: of the data set.
    """
    items = sequences.column("item").combine_chunks()
    offsets = items.offsets.to_numpy().astype(np.int64)
    item = items.values.to_numpy()
    behavior = sequences.column("behavior").combine_chunks().values.to_numpy().astype(np.int64)
    item, behavior = (values[offsets[0] : offsets[-1]] for values in (item, behavior))
    offsets = offsets - offsets[0]
    first_item, size = 1 + manifest.oov, len(manifest.behaviors) + 1

    def counted(behaviors: np.ndarray) -> np.ndarray:
        return np.bincount(behaviors, minlength=size)

    train_end, valid_end = (
        sequences.column(name).to_numpy().astype(np.int64) for name in ("train_end", "valid_end")
    )
    parts = []
    for cut, end in ((train_end, valid_end), (valid_end, np.diff(offsets))):
        sequence, event = _targets(behavior, offsets, cut, end, manifest)
        begin = offsets[sequence]
        stop = begin + cut[sequence] if manifest.split["kind"] in ("next_basket", "random") else event
        sees = stop > begin
        found = latest_earlier(item, begin[sees], stop[sees], item[event[sees]], first_item)
        parts.append(counted(np.where(found < 0, 0, behavior[found])))
    return Repeats(counted(previous_behaviors(item, behavior, offsets, first_item)), *parts)


def _targets(
    behavior: np.ndarray, offsets: np.ndarray, cut: np.ndarray, end: np.ndarray, manifest: Manifest
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and indices of the target events of a part, the first of each sequence or all."""
    lengths = np.diff(offsets)
    place = np.arange(len(behavior)) - np.repeat(offsets[:-1], lengths)
    inside = (place >= np.repeat(cut, lengths)) & (place < np.repeat(end, lengths))
    event = np.flatnonzero(inside & np.isin(behavior, manifest.target_ids))
    sequence = np.searchsorted(offsets, event, side="right") - 1
    if evaluated_targets(manifest.split) == "first":
        first = np.diff(sequence, prepend=-1) > 0
        sequence, event = sequence[first], event[first]
    return sequence, event


def repeats_record(repeats: Repeats, behaviors: list[str]) -> dict[str, Any]:
    """As plain values: `events`, `valid`, `test`, each with `number`, `repeat` and, by name, `repeat_by`."""
    return {
        name: {
            "number": int(counts.sum()),
            "repeat": int(counts[1:].sum()),
            "repeat_by": dict(zip(behaviors, counts[1:].tolist(), strict=True)),
        }
        for name, counts in (("events", repeats.events), ("valid", repeats.valid), ("test", repeats.test))
    }
