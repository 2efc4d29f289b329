"""Some of the training part: of some users, or the oldest events of all. For laws of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from behavior.errors import UserError
from behavior.runtime.splitmix import GAMMA, mixed
from models.data.loading.changed import ChangedSource
from models.data.loading.source import SequenceSource
from models.data.sequences import BoolArray, Int64Array, SequenceData

FractionBy = Literal["users", "time"]


def fraction_of(source: SequenceSource, fraction: float, by: FractionBy) -> SequenceSource:
    """The sequences of a source with a smaller training part.

    Whatever the fraction, what remains of a smaller one is part of what remains of a larger one, and no seed
    changes it. Validation and test parts stay as they are. Of the whole it is the source itself.

    Args:
        source: the sequences; by time all of them are read once.
        fraction: above 0; about this share of the users with a training part, each with all of it; or, by
            time, at least this share of the training events, up to a moment that is the same for all users.
        by: users or time.

    Raises:
        UserError: by time, where the data set has none.
    """
    if fraction == 1.0:
        return source
    if by == "users":

        def some(data: SequenceData) -> SequenceData:
            return replace(data, train_end=np.where(is_chosen(data.row, fraction), data.train_end, 0))

        return ChangedSource(source, some, mark=f"users {fraction:g}")
    if not source.about.has_time:
        raise UserError(
            "the data set has no time: there are no oldest events",
            where="data.fraction_by = time",
            fix="set data.fraction_by=users",
        )
    last = _moment(source, fraction)

    def oldest(data: SequenceData) -> SequenceData:
        return replace(data, train_end=_events_until(data, last))

    return ChangedSource(source, oldest, mark=f"until {last}")


def is_chosen(row: Int64Array, fraction: float) -> BoolArray:
    """[sequences] which of them are among a fraction of the users, by their numbers in the data set alone."""
    words = mixed((row.astype(np.uint64) + np.uint64(1)) * GAMMA)
    return (words >> np.uint64(11)).astype(np.float64) / 2.0**53 < fraction


def _moment(source: SequenceSource, fraction: float) -> int:
    """The time up to which there is at least this share of the training events."""
    times = np.sort(np.concatenate([data.timestamp[data.in_training()] for data in source]))
    if not len(times):
        return 0
    return int(times[max(0, int(np.ceil(fraction * len(times))) - 1)])


def _events_until(data: SequenceData, last: int) -> Int64Array:
    """[sequences] training events up to a moment; of a sequence they are its first ones."""
    counted = np.concatenate(([0], np.cumsum(data.in_training() & (data.timestamp <= last))))
    return counted[data.offsets[1:]] - counted[data.offsets[:-1]]
