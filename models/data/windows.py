"""Windows of evaluation: the history that a model sees of a sequence, and the packed batch they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.data.batch import PackedBatch
from models.data.collate import Collator, LossOn, QueryTime
from models.data.sequences import Int64Array, SequenceData


@dataclass(frozen=True)
class Windows:
    """Input events `start` to `stop` (indices into the flat columns, or into `kept`) of some sequences.

    An input predicts the next input, the last one the event at `target`, which stands in the same sequence,
    after all inputs. A window is empty only where some events are no inputs.
    """

    sequence: Int64Array  # [windows] number within the data
    start: Int64Array  # [windows]
    stop: Int64Array  # [windows] exclusive
    target: Int64Array  # [windows] event that the last input predicts
    kept: Int64Array | None = None
    """Indices of the events that are inputs, ascending; None: all are."""

    @property
    def lengths(self) -> Int64Array:
        return self.stop - self.start

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Int64Array) -> Windows:
        """The windows numbered by `rows`, in that order."""
        return Windows(self.sequence[rows], self.start[rows], self.stop[rows], self.target[rows], self.kept)


def history_windows(
    data: SequenceData,
    sequence: Int64Array,
    stop: Int64Array,
    target: Int64Array,
    max_length: int,
    kept: Int64Array | None = None,
) -> Windows:
    """The newest `max_length` inputs of each target's history.

    Args:
        sequence: [windows] numbers within `data`.
        stop: [windows] where the history ends, exclusive, in the flat columns; must have an event before it.
        target: [windows] index of the target event; `stop`, or later where the target's basket begins there.
        max_length: most events of history.
        kept: events that are inputs (`models.data.kept.KeptEvents`); None: all. A history without any of them
            is an empty window.
    """
    begin = data.offsets[sequence]
    if kept is not None:
        begin, stop = np.searchsorted(kept, begin), np.searchsorted(kept, stop)
    return Windows(sequence, np.maximum(begin, stop - max_length), stop, target, kept)


def gather(
    data: SequenceData,
    windows: Windows,
    *,
    time: QueryTime,
    loss_on: LossOn = "all",
    pin: bool = False,
    asked: Int64Array | None = None,
) -> PackedBatch:
    """The packed batch of windows, with the columns that `data` was read for.

    Args:
        data: where the windows are.
        windows: one a sequence of the batch.
        time: whether a query knows the time of the event that it predicts.
        loss_on: which events carry loss: all, or those with a target behavior.
        pin: whether the batch is made in page-locked memory.
        asked: [windows] see `models.data.origins.Samples`.
    """
    lengths = windows.lengths
    offsets = np.cumsum(lengths) - lengths
    event = np.arange(int(lengths.sum())) + np.repeat(windows.start - offsets, lengths)
    if windows.kept is not None:
        event = windows.kept[event]
    collator = Collator(
        data.columns, lengths, time=time, loss_on=loss_on, has_time=data.about.has_time, pin=pin
    )
    collator.add(data, data.row[windows.sequence], event, windows.target, asked=asked)
    return collator.finish()
