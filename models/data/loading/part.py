"""Which events of every sequence are trained on: the training part, or more of it when a run is refitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from models.data.loading.changed import ChangedSource
from models.data.loading.source import SequenceSource
from models.data.sequences import Int64Array, SequenceData

Part = Literal["train", "train+valid", "all"]
"""`train`: events before the validation target; `train+valid`: all before the test target; `all`: all."""

IN_WORDS: dict[Part, str] = {
    "train": "the training part",
    "train+valid": "training and validation events",
    "all": "every event, those of the test split included",
}


def end_of(data: SequenceData, part: Part) -> Int64Array:
    """[sequences] events of each sequence that belong to a part, from the sequence's start."""
    if part == "train":
        return data.train_end
    return data.valid_end if part == "train+valid" else data.lengths


def part_of(source: SequenceSource, part: Part) -> SequenceSource:
    """The sequences of a source, whose training part ends where `part` says.

    For what learns from them, and for nothing else: an evaluation needs to know where targets are. Of the
    training part it is the source itself, so that nothing of it changes.
    """
    if part == "train":
        return source

    def ended(data: SequenceData) -> SequenceData:
        return replace(data, train_end=end_of(data, part))

    return ChangedSource(source, ended, mark=part)


def count_items(source: SequenceSource) -> Int64Array:
    """[item ids] events of each item in the training part of a source; 0 for padding and unknown items."""
    counts = np.zeros(source.about.num_item_ids, np.int64)
    for data in source:
        counts += np.bincount(data.item[data.in_training()], minlength=len(counts))
    counts[: source.about.first_item] = 0
    return counts
