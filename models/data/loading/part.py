"""Which events of every sequence are trained on: the training part, or more of it when a run is refitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from models.data.about import About
from models.data.columns import Columns
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


class PartSource:
    """The sequences of a source, whose training part ends where `part` says.

    For what learns from them, and for nothing else: an evaluation needs to know where targets are.

    Args:
        source: the sequences.
        part: what belongs to the training part.
    """

    def __init__(self, source: SequenceSource, part: Part) -> None:
        self._source, self._part = source, part

    @property
    def about(self) -> About:
        return self._source.about

    @property
    def columns(self) -> Columns:
        return self._source.columns

    @property
    def events(self) -> Sequence[int]:
        return self._source.events

    @property
    def digest(self) -> str:
        return f"{self._source.digest} {self._part}"

    def read(self, part: int) -> SequenceData:
        data = self._source.read(part)
        return replace(data, train_end=end_of(data, self._part))

    def train_ends(self, part: int) -> Int64Array:
        return self.read(part).train_end

    def __iter__(self) -> Iterator[SequenceData]:
        return (self.read(part) for part in range(len(self.events)))


def part_of(source: SequenceSource, part: Part) -> SequenceSource:
    """The source itself for the training part, so that nothing of it changes; else a `PartSource`."""
    return source if part == "train" else PartSource(source, part)


def count_items(source: SequenceSource) -> Int64Array:
    """[item ids] events of each item in the training part of a source; 0 for padding and unknown items."""
    counts = np.zeros(source.about.num_item_ids, np.int64)
    for data in source:
        counts += np.bincount(data.item[data.in_training()], minlength=len(counts))
    counts[: source.about.first_item] = 0
    return counts
