"""Windows: which events of which sequence a model sees, and the packed batch they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from models.batch import PackedBatch
from models.data import Int64Array, SequenceData

QueryTime = Literal["known", "unknown"]
LossOn = Literal["all", "targets"]


@dataclass(frozen=True)
class Windows:
    """Input events `start` to `stop` (indices into the flat columns) of some sequences.

    An input predicts the event right after it, the last one that at `target`, which stands in the same
    sequence, at `stop` or later. No window is empty.
    """

    sequence: Int64Array  # [windows] global row number
    start: Int64Array  # [windows]
    stop: Int64Array  # [windows] exclusive
    target: Int64Array  # [windows] event that the last input predicts; at `stop` but for baskets

    @property
    def lengths(self) -> Int64Array:
        return self.stop - self.start

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Int64Array) -> Windows:
        """The windows numbered by `rows`, in that order."""
        return Windows(self.sequence[rows], self.start[rows], self.stop[rows], self.target[rows])


def training_windows(data: SequenceData, max_length: int) -> Windows:
    """The newest `max_length + 1` training events of every sequence: all but the last are inputs.

    Sequences with fewer than 2 training events have nothing to predict and are left out.
    """
    sequence = np.flatnonzero(data.train_end >= 2)
    begin = data.offsets[sequence]
    stop = begin + data.train_end[sequence] - 1
    return Windows(sequence, np.maximum(begin, stop - max_length), stop, stop)


def history_windows(
    data: SequenceData, sequence: Int64Array, stop: Int64Array, target: Int64Array, max_length: int
) -> Windows:
    """The newest `max_length` events of each target's history.

    Args:
        sequence: [windows] global row numbers.
        stop: [windows] where the history ends, exclusive, in the flat columns; must have an event before it.
        target: [windows] index of the target event; `stop`, or later where the target's basket begins there.
        max_length: most events of history.
    """
    return Windows(sequence, np.maximum(data.offsets[sequence], stop - max_length), stop, target)


def gather(data: SequenceData, windows: Windows, *, time: QueryTime, loss_on: LossOn = "all") -> PackedBatch:
    """Pack windows end to end.

    `query_time` of a token is the time of the event that it predicts when the time is known (HSTU, arXiv
    2402.17152), its own time when unknown. `target` is the item of that event; 0, no loss, where that item is
    OOV (it can never be ranked) or, with `loss_on="targets"`, where that event has no target behavior.
    """
    lengths = windows.lengths
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    position = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    event = np.repeat(windows.start, lengths) + position
    following = event + 1
    following[offsets[1:] - 1] = windows.target
    target = data.item[following].astype(np.int64)
    target_behavior = data.behavior[following].astype(np.int64)
    carries_loss = target >= data.first_item
    if loss_on == "targets":
        carries_loss &= np.isin(target_behavior, data.target_behaviors)
    return PackedBatch(
        item=torch.from_numpy(data.item[event].astype(np.int64)),
        behavior=torch.from_numpy(data.behavior[event].astype(np.int64)),
        timestamp=torch.from_numpy(data.timestamp[event]),
        query_time=torch.from_numpy(data.timestamp[following if time == "known" else event]),
        offsets=torch.from_numpy(offsets),
        position=torch.from_numpy(position),
        target=torch.from_numpy(np.where(carries_loss, target, 0)),
        target_behavior=torch.from_numpy(target_behavior),
        sequence=torch.from_numpy(windows.sequence.astype(np.int64)),
        has_time=data.has_time,
    )
