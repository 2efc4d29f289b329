"""Labelled rows: the events of a part of a data set, each with what is predicted of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.columns import Columns
from models.data.declared import CORE, event_column
from models.data.judged import part_of_split
from models.data.sequences import BoolArray, Int8Array, Int32Array, Int64Array, SequenceData
from models.evaluation.actions.labels import VALUE, Label

Part = Literal["train", "valid", "test", "train+valid"]
"""Which events are rows: those of a part of every sequence."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelledRows:
    """Events whose labels are known, in the order of the data set: of sequences, then of events."""

    sequence: Int64Array  # [rows] number of the sequence (the user) in the data set
    position: Int32Array  # [rows] place of the event in it, from 0
    stop: Int32Array  # [rows] place where its history ends, exclusive; at most `position`
    item: Int32Array  # [rows] item id
    behavior: Int8Array  # [rows] behavior id
    timestamp: Int64Array  # [rows] whole seconds; 0 where there is no time
    train_count: Int32Array  # [rows] events of the user's training part
    label: Float32Array  # [rows, labels]; NaN where the row has no such label
    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Int64Array | BoolArray | slice) -> LabelledRows:
        """Some rows, in the order asked for."""
        return LabelledRows(**{name: getattr(self, name)[rows] for name in _ARRAYS}, labels=self.labels)

    def of_label(self, number: int) -> LabelledRows:
        """The rows that have one of the labels, and that label alone."""
        label = self.label[:, number]
        kept = self.take(~np.isnan(label))
        one = {name: getattr(kept, name) for name in _ARRAYS}
        return LabelledRows(
            **one | {"label": kept.label[:, number : number + 1]}, labels=(self.labels[number],)
        )

    @classmethod
    def concatenated(cls, parts: Sequence[LabelledRows]) -> LabelledRows:
        """Rows of one data set, end to end; at least one part."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        return cls(**arrays, labels=parts[0].labels)


_ARRAYS = tuple(field.name for field in fields(LabelledRows) if field.name != "labels")


def label_columns(shards: ShardFolder, labels: Sequence[Label]) -> Columns:
    """The core columns, and `value` where a label reads it: what sequences must be read with."""
    if not any(label.reads_value for label in labels):
        return CORE
    return Columns.merged(CORE, [event_column(shards, VALUE)])


def labelled_rows(
    data: SequenceData, labels: Sequence[Label], part: Part, *, known_only: bool = False
) -> LabelledRows:
    """The rows of a part of some sequences.

    Training rows are all events of training parts. Of a validation or test part the rows are all its events
    where the split evaluates all (`split.targets`), else the first event, which under leave-one-out is the
    target; its history is everything before it, of baskets everything before the part. Events that have none
    of the labels are no rows.

    Args:
        data: sequences, read with `label_columns`.
        labels: what is predicted.
        part: which events.
        known_only: only those of users with an event in the training part and of known items; where the
            vocabulary is fitted on training parts (`vocabulary.fit_on: train`), known items have one there.
    """
    begin, end = _range(data, part)
    if part in ("valid", "test") and data.about.evaluated != "all":
        end = np.minimum(end, begin + 1)
    count = end - begin
    sequence = np.repeat(np.arange(data.num_sequences), count)
    place = np.arange(len(sequence)) + np.repeat(begin - (np.cumsum(count) - count), count)
    event = data.offsets[sequence] + place
    value = data.events.get(VALUE)
    behavior = data.behavior[event]
    known = None if value is None else value[event]
    label = np.stack([each.of(behavior, known) for each in labels], axis=1)
    whole = data.about.ends_before_part and part in ("valid", "test")
    rows = LabelledRows(
        sequence=data.row[sequence],
        position=place.astype(np.int32),
        stop=(begin[sequence] if whole else place).astype(np.int32),
        item=data.item[event],
        behavior=behavior,
        timestamp=data.timestamp[event],
        train_count=data.train_end[sequence].astype(np.int32),
        label=label,
        labels=tuple(labels),
    )
    chosen = np.asarray(~np.isnan(label).all(axis=1))
    if known_only:
        chosen &= (rows.item >= data.about.first_item) & (rows.train_count > 0)
    return rows.take(chosen)


def rows_of(source: Iterable[SequenceData], labels: Sequence[Label], part: Part) -> LabelledRows:
    """The rows of a part of a whole data set, in memory: some 40 bytes each.

    Raises:
        UserError: there is none.
    """
    rows = LabelledRows.concatenated([labelled_rows(data, labels, part) for data in source])
    if not len(rows):
        names = ", ".join(label.name for label in labels)
        raise UserError(
            f"no event of the {part} part has a label",
            where=f"task.label = {names}",
            fix="name another label, or prepare the data with another split",
        )
    return rows


def _range(data: SequenceData, part: Part) -> tuple[Int64Array, Int64Array]:
    """[sequences] where a part begins and ends, from each sequence's start."""
    if part == "train":
        return np.zeros_like(data.train_end), data.train_end
    if part == "train+valid":
        return np.zeros_like(data.train_end), data.valid_end
    return part_of_split(data, part)
