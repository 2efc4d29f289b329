"""Flat event columns to a packed batch, in one pass and without intermediate copies."""

from __future__ import annotations

from typing import Literal

import numpy as np

from behavior.compiled import compiled
from models.data.batch import PackedBatch
from models.data.sequences import Int64Array, SequenceData

QueryTime = Literal["known", "unknown"]
LossOn = Literal["all", "targets"]


class Collator:
    """Fills a packed batch with samples, from one set of columns after another.

    `query_time` of a token is the time of the event that it predicts when the time is known (HSTU, arXiv
    2402.17152), its own time when unknown. `target` is the item of that event; 0, no loss, where that item is
    OOV (it can never be ranked) or, with `loss_on="targets"`, where that event has no target behavior.

    Args:
        lengths: [sequences] tokens of each.
        time: whether a query knows the time of what it predicts.
        loss_on: which events carry loss.
        has_time: whether the times mean anything.
        pin: whether the batch is made in page-locked memory.
    """

    def __init__(
        self, lengths: Int64Array, *, time: QueryTime, loss_on: LossOn, has_time: bool, pin: bool = False
    ) -> None:
        self.known, self.loss_on = time == "known", loss_on
        self.batch = PackedBatch.empty(lengths, has_time=has_time, pin=pin)
        self.columns = self.batch.token_rows().numpy()  # [columns, tokens or a few more]
        self.starts = self.batch.offsets.numpy()
        self.rows = self.batch.sequence.numpy()
        self.filled = 0

    def add(self, data: SequenceData, sequence: Int64Array, event: Int64Array, target: Int64Array) -> None:
        """Fill in the next sequences of the batch.

        Args:
            data: where they are from.
            sequence: [sequences] number of each sequence in the data set.
            event: [tokens] indices into the columns, sample after sample, oldest first.
            target: [sequences] index of the event that the last token predicts.
        """
        begin, end = self.filled, self.filled + len(sequence)
        self.rows[begin:end] = sequence
        _fill(
            self.columns,
            self.starts[begin : end + 1],
            event,
            target,
            data.item,
            data.behavior,
            data.timestamp,
            data.about.is_target(),
            self.loss_on == "all",
            data.about.first_item,
            self.known,
        )
        self.filled = end

    def finish(self) -> PackedBatch:
        """The batch."""
        assert self.filled == self.batch.num_sequences
        return self.batch


@compiled
def _fill(
    columns: np.ndarray,
    starts: np.ndarray,
    event: np.ndarray,
    last_target: np.ndarray,
    items: np.ndarray,
    behaviors: np.ndarray,
    timestamps: np.ndarray,
    carries_loss: np.ndarray,
    all_carry_loss: bool,
    first_item: int,
    known: bool,
) -> None:
    """The token columns of a batch, in the order of TOKEN_COLUMNS, from the columns of the data."""
    item, behavior, timestamp, query_time, position, target, target_behavior = (
        columns[0],
        columns[1],
        columns[2],
        columns[3],
        columns[4],
        columns[5],
        columns[6],
    )
    first = starts[0]
    for sequence in range(len(last_target)):
        begin, end = starts[sequence], starts[sequence + 1]
        if begin == end:
            continue
        count = end - begin
        # Views without negative indices: these loops copy many numbers at a time.
        to_item, to_behavior, to_time = item[begin:end], behavior[begin:end], timestamp[begin:end]
        to_target, to_asked, to_query = target[begin:end], target_behavior[begin:end], query_time[begin:end]
        source, final = event[begin - first], last_target[sequence]
        if event[end - first - 1] - source == count - 1:
            from_item, from_behavior = items[source : source + count], behaviors[source : source + count]
            from_time = timestamps[source : source + count]
            for token in range(count):
                to_item[token] = from_item[token]
            for token in range(count):
                to_behavior[token] = from_behavior[token]
            for token in range(count):
                to_time[token] = from_time[token]
        else:
            for token in range(count):
                here = event[begin - first + token]
                to_item[token] = items[here]
                to_behavior[token] = behaviors[here]
                to_time[token] = timestamps[here]
        for token in range(count - 1):
            to_target[token] = to_item[token + 1] if to_item[token + 1] >= first_item else 0
        for token in range(count - 1):
            to_asked[token] = to_behavior[token + 1]
        for token in range(count - 1):
            to_query[token] = to_time[token + 1 if known else token]
        to_target[count - 1] = items[final] if items[final] >= first_item else 0
        to_asked[count - 1] = behaviors[final]
        to_query[count - 1] = timestamps[final] if known else to_time[count - 1]
        to_position = position[begin:end]
        for token in range(count):
            to_position[token] = token
        if not all_carry_loss:
            for token in range(count):
                if not carries_loss[to_asked[token]]:
                    to_target[token] = 0
