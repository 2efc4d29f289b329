"""The sequences of a data set in memory, with the label of every event."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.loading import ShardSource
from models.data.sequences import Int64Array, SequenceData, concat_sequences
from models.evaluation.actions.labels import VALUE, Label
from models.evaluation.actions.rows import LabelledRows, Part, label_columns, labelled_rows
from models.evaluation.actions.sampled import Negatives

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankerData:
    """A data set and what is predicted of its events."""

    shards: ShardFolder
    sequences: SequenceData
    label: Label
    negatives: Negatives | None = None
    """What stands among rows beside those of the log."""

    @classmethod
    def of(cls, shards: ShardFolder, label: Label, negatives: Negatives | None = None) -> RankerData:
        """Read a whole data set.

        Raises:
            UserError: the data set lacks a column that the label reads.
        """
        source = ShardSource(shards, columns=label_columns(shards, [label]))
        return cls(shards, concat_sequences(list(source)), label, negatives)

    @property
    def users(self) -> int:
        """Sequences."""
        return self.sequences.num_sequences

    @property
    def items(self) -> int:
        """Item ids, those of padding and unknown items included."""
        return self.sequences.about.num_item_ids

    @cached_property
    def truth(self) -> npt.NDArray[np.float32]:
        """[events] the label; NaN where an event has none."""
        return self.label.of(self.sequences.behavior, self.sequences.events.get(VALUE))

    @cached_property
    def graded(self) -> Float64Array:
        """[events] what counting averages: the value, where the label reads it, so that five stars say more
        than four; else the label. NaN where there is none."""
        value = self.sequences.events.get(VALUE) if self.label.reads_value else None
        return (self.truth if value is None else value).astype(np.float64)

    @cached_property
    def owner(self) -> Int64Array:
        """[events] number of the sequence."""
        return np.repeat(np.arange(self.users), self.sequences.lengths)

    def rows(self, part: Part, *, known_only: bool = False) -> LabelledRows:
        """The labelled rows of a part, and sampled negatives where there are any; perhaps none."""
        rows = labelled_rows(self.sequences, [self.label], part, known_only=known_only)
        return rows if self.negatives is None else self.negatives.among(self.sequences, rows, part)

    def events(self, rows: LabelledRows) -> Int64Array:
        """[rows] indices of events."""
        found: Int64Array = self.sequences.offsets[rows.sequence] + rows.position
        return found

    def counted(self, part: Part) -> Int64Array:
        """Indices of the events of a part that averages count: those with something to average."""
        sequences = self.sequences
        end = sequences.train_end if part == "train" else sequences.valid_end
        place = np.arange(len(self.owner)) - sequences.offsets[self.owner]
        return np.flatnonzero((place < end[self.owner]) & ~np.isnan(self.graded))


@dataclass(frozen=True)
class Fitting:
    """What a ranker is fitted on."""

    data: RankerData
    train: LabelledRows
    part: Part
    """Whose events are counted: `train` or `train+valid`."""
    valid: LabelledRows | None
    """Rows that choose settings and calibrate; None: nothing is left to choose."""
    chosen: dict[str, Any]
    """What an earlier fitting chose on validation; empty for a first one."""
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What one ranker has found and another needs as well, by name."""

    @classmethod
    def first(cls, data: RankerData) -> Fitting:
        """On the training part, by the validation part where it has both kinds of rows.

        Raises:
            UserError: there is nothing to train on.
        """
        train, valid = data.rows("train"), data.rows("valid")
        if not len(train):
            raise UserError(
                "no event of the training part has a label", where=f"task.label = {data.label.name}"
            )
        usable = len(valid) > 0 and (not data.label.is_binary or len(np.unique(valid.label)) == 2)
        return cls(data, train, "train", valid if usable else None, {})

    def again(self, chosen: dict[str, Any]) -> Fitting:
        """On training and validation parts, with what was chosen."""
        return Fitting(self.data, self.data.rows("train+valid"), "train+valid", None, chosen)
