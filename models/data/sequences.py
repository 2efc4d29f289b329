"""Sequences in memory: end to end in flat columns, ready for cutting windows from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data.about import About
from models.data.columns import Columns
from models.data.declared import CORE

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Excerpt:
    """Which events of the data set's sequences are there, where others were left out."""

    place: Int64Array  # [events] place of each in its whole sequence, from 0
    judged: BoolArray  # [events] whether it is a target of its whole sequence, of either split

    def take(self, rows: BoolArray) -> Excerpt:
        """Some of these events."""
        return Excerpt(self.place[rows], self.judged[rows])


@dataclass(frozen=True)
class SequenceData:
    """Some sequences of a data set, end to end.

    Sequence s holds events `offsets[s]` to `offsets[s + 1]`; events are in order of time.
    """

    events: Mapping[str, npt.NDArray]
    """[events] columns of the sequence files: `item`, `behavior`, `timestamp`, and what `columns` read."""
    offsets: Int64Array  # [sequences + 1]
    train_end: Int64Array  # [sequences] events of the training part, from the sequence's start
    valid_end: Int64Array  # [sequences] events before the test part
    row: Int64Array  # [sequences] number of the sequence in the data set
    about: About
    columns: Columns = CORE
    """Columns of the batches that are made of them."""
    excerpt: Excerpt | None = None
    """Which events these are; None: all of the data set's sequences."""

    @property
    def item(self) -> Int32Array:
        """[events] item ids: 0 padding, 1..oov unknown, then known items."""
        return self.events["item"]

    @property
    def behavior(self) -> Int8Array:
        """[events] behavior ids from 1."""
        return self.events["behavior"]

    @property
    def timestamp(self) -> Int64Array:
        """[events] whole seconds; zeros where the data set has no time."""
        return self.events["timestamp"]

    @property
    def num_sequences(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64Array:
        """[sequences] events of each sequence."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        arrays = (*self.events.values(), self.offsets, self.train_end, self.valid_end, self.row)
        return sum(array.nbytes for array in arrays)

    def is_target(self) -> BoolArray:
        """[events] whether an event's behavior is one that is predicted and evaluated."""
        return self.about.is_target()[self.behavior]

    def is_judged(self) -> BoolArray:
        """[events] whether an event's behavior is one that is evaluated: a target, but for `About.judged`."""
        return self.about.is_judged()[self.behavior]

    def in_training(self) -> BoolArray:
        """[events] whether an event belongs to the training part."""
        position = np.arange(len(self.item)) - np.repeat(self.offsets[:-1], self.lengths)
        return position < np.repeat(self.train_end, self.lengths)


def concat_sequences(parts: list[SequenceData]) -> SequenceData:
    """Parts of one data set, end to end; a single part as it is."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.item) for part in parts)])
    moved = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    return SequenceData(
        events={name: np.concatenate([part.events[name] for part in parts]) for name in parts[0].events},
        offsets=np.concatenate([*moved, starts[-1:]]),
        train_end=np.concatenate([part.train_end for part in parts]),
        valid_end=np.concatenate([part.valid_end for part in parts]),
        row=np.concatenate([part.row for part in parts]),
        about=parts[0].about,
        columns=parts[0].columns,
        excerpt=_concat_excerpts([part.excerpt for part in parts if part.excerpt is not None]),
    )


def _concat_excerpts(parts: list[Excerpt]) -> Excerpt | None:
    if not parts:
        return None
    return Excerpt(
        np.concatenate([part.place for part in parts]), np.concatenate([part.judged for part in parts])
    )
