"""Chosen events of sequences become a packed batch, in one pass a column and without intermediate copies."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.data.baskets import Draw, draw_targets
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.copies import Copies
from models.data.origins import Samples
from models.data.sequences import BoolArray, Int64Array, SequenceData

QueryTime = Literal["known", "unknown"]
LossOn = Literal["all", "targets", "basket"]


class Collator:
    """Fills a packed batch with sequences, from one `SequenceData` after another.

    Args:
        columns: of the batch.
        lengths: [sequences] events of each.
        time: whether a query knows the time of the event that it predicts.
        loss_on: which events carry loss: all, those with a target behavior, or one of those of each basket.
        has_time: whether timestamps mean anything.
        pin: whether the batch is made in page-locked memory.
        draw: what targets drawn from baskets follow from; needed with `basket`.
    """

    def __init__(
        self,
        columns: Columns,
        lengths: Int64Array,
        *,
        time: QueryTime,
        loss_on: LossOn,
        has_time: bool,
        pin: bool = False,
        draw: Draw | None = None,
    ) -> None:
        self.time, self.loss_on, self.draw = time, loss_on, draw
        self.batch = PackedBatch.empty(lengths, has_time=has_time, columns=columns, pin=pin)
        # Those made of the same values one after the other, while the processor's cache has these.
        self.columns = sorted(columns, key=lambda column: column.reads)
        self.starts = self.batch.offsets.numpy()
        self.filled = 0

    def add(
        self,
        data: SequenceData,
        sequence: Int64Array,
        event: Int64Array,
        target: Int64Array,
        copies: Copies | None = None,
        asked: Int64Array | None = None,
    ) -> None:
        """Fill in the next sequences of the batch.

        Args:
            data: where they are from.
            sequence: [samples] number of each sequence in the data set.
            event: [events] indices into the columns, sample after sample, oldest first.
            target: [samples] index of the event that the last event predicts.
            copies: how often each sample stands in the batch; None: once, as a sequence.
            asked: [samples] see `models.data.origins.Samples`.
        """
        if copies is not None:
            sequence, event, target = (
                copies.of_sequences(sequence),
                copies.events(event),
                copies.of_runs(target),
            )
        begin, end = self.filled, self.filled + len(sequence)
        self.batch.sequence.numpy()[begin:end] = sequence
        starts = self.starts[begin : end + 1]
        if copies is not None:
            starts = starts[0] + np.concatenate(([0], np.cumsum(copies.inputs_of_runs)))
        samples = Samples(
            data.events,
            data.about,
            starts,
            event,
            target,
            time_known=self.time == "known",
            loss_on_all=self.loss_on == "all",
            first_position=None if copies is None else copies.first_position,
            drawn=self._drawn(data, starts, event, target) if self.loss_on == "basket" else None,
            offsets=data.offsets,
            asked=asked,
        )
        for column in self.columns:
            assert column.origin is not None, f"column '{column.name}' has no origin"
            column.origin.fill(self.batch[column.name].numpy(), samples)
        self.filled = end

    def _drawn(
        self, data: SequenceData, starts: Int64Array, event: Int64Array, target: Int64Array
    ) -> tuple[Int64Array, BoolArray]:
        assert self.draw is not None
        following = np.roll(event, -1)
        ends, some = starts[1:] - starts[0], np.diff(starts) > 0
        following[ends[some] - 1] = target[some]
        return draw_targets(data, event, following, self.draw)

    def finish(self) -> PackedBatch:
        """The batch."""
        assert self.filled == self.batch.num_sequences
        return self.batch
