"""Flat event columns to a packed batch, in one pass and without intermediate copies."""

from __future__ import annotations

from typing import Literal

import numpy as np

from behavior.compiled import compiled
from models.batch import TOKEN_COLUMNS, PackedBatch
from models.data import Int64Array, SequenceData

QueryTime = Literal["known", "unknown"]
LossOn = Literal["all", "targets"]


class Collator:
    """Fills a packed batch with samples, from one set of columns after another.

    `query_time` of a token is the time of the event that it predicts when the time is known (HSTU, arXiv
    2402.17152), its own time when unknown. `target` is the item of that event; 0, no loss, where that item is
    OOV (it can never be ranked) or, with `loss_on="targets"`, where that event has no target behavior.

    Args:
        tokens: of the batch.
        lengths: [sequences] tokens of each.
        time: whether a query knows the time of what it predicts.
        loss_on: which events carry loss.
        pin: whether the batch is made in page-locked memory.
    """

    def __init__(
        self, lengths: Int64Array, *, time: QueryTime, loss_on: LossOn, has_time: bool, pin: bool = False
    ) -> None:
        self.known, self.loss_on = time == "known", loss_on
        self.batch = PackedBatch.empty(lengths, has_time=has_time, pin=pin)
        self.columns = [getattr(self.batch, name).numpy() for name in TOKEN_COLUMNS]  # each [tokens]
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
        item, behavior, timestamp, query_time, position, wanted, asked = self.columns
        _fill(
            item,
            behavior,
            timestamp,
            query_time,
            position,
            wanted,
            asked,
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
    item: np.ndarray,
    behavior: np.ndarray,
    timestamp: np.ndarray,
    query_time: np.ndarray,
    position: np.ndarray,
    target: np.ndarray,
    target_behavior: np.ndarray,
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
    """The token columns of a batch from the columns of the data."""
    first = starts[0]
    for sequence in range(len(last_target)):
        begin, end = starts[sequence], starts[sequence + 1]
        if begin == end:
            continue
        source, last = event[begin - first], event[end - first - 1]
        if last - source == end - begin - 1:
            # A window without gaps is copied column by column, many numbers at a time.
            for token in range(begin, end):
                item[token] = items[source + token - begin]
            for token in range(begin, end):
                behavior[token] = behaviors[source + token - begin]
            for token in range(begin, end):
                timestamp[token] = timestamps[source + token - begin]
            for token in range(begin, end - 1):
                target[token] = items[source + token - begin + 1]
            for token in range(begin, end - 1):
                target_behavior[token] = behaviors[source + token - begin + 1]
            for token in range(begin, end - 1):
                query_time[token] = timestamps[source + token - begin + 1]
        else:
            for token in range(begin, end):
                here = event[token - first]
                item[token] = items[here]
                behavior[token] = behaviors[here]
                timestamp[token] = timestamps[here]
            for token in range(begin, end - 1):
                target[token] = item[token + 1]
                target_behavior[token] = behavior[token + 1]
                query_time[token] = timestamp[token + 1]
        target[end - 1] = items[last_target[sequence]]
        target_behavior[end - 1] = behaviors[last_target[sequence]]
        query_time[end - 1] = timestamps[last_target[sequence]]
        for token in range(begin, end):
            position[token] = token - begin
        if not known:
            query_time[begin:end] = timestamp[begin:end]
        if not all_carry_loss:
            for token in range(begin, end):
                if not carries_loss[target_behavior[token]]:
                    target[token] = 0
        for token in range(begin, end):
            target[token] = target[token] if target[token] >= first_item else 0
