"""Training batches in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.batch import PackedBatch
from models.data import Int64Array, SequenceData
from models.windows import LossOn, QueryTime, gather, training_windows


class TrainLoader:
    """Batches of training windows, shuffled anew in every epoch.

    Iterating goes on from where the loader stands to the end of its epoch and then moves it to the start of
    the next. The position is the epoch and the sequences already visited, so that a loader which loads the
    state of another visits exactly what that one had left.

    Args:
        data: the sequences.
        max_length: most input events of a sequence.
        batch_size: sequences in a batch (the last of an epoch may have fewer).
        batch_tokens: when given, a batch takes sequences while their inputs fit into so many tokens, instead
            of a fixed number (always at least one).
        time: whether a query knows the time of what it predicts.
        loss_on: which events are predicted.
        seed: of the order.
    """

    def __init__(
        self,
        data: SequenceData,
        *,
        max_length: int,
        batch_size: int = 128,
        batch_tokens: int | None = None,
        time: QueryTime = "known",
        loss_on: LossOn = "all",
        seed: int = 0,
    ) -> None:
        self.data = data
        self.windows = training_windows(data, max_length)
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.time: QueryTime = time
        self.loss_on: LossOn = loss_on
        self.seed = seed
        self.epoch = 0
        self.seen = 0
        self._order = self._permutation()
        self._ends = self._batch_ends()

    @property
    def skipped(self) -> int:
        """Sequences left out because they have fewer than 2 training events."""
        return self.data.num_sequences - len(self.windows)

    @property
    def tokens_an_epoch(self) -> int:
        """Input events of one epoch."""
        return int(self.windows.lengths.sum())

    def __len__(self) -> int:
        """Batches of the whole current epoch."""
        return len(self._ends)

    @property
    def batches_left(self) -> int:
        """Batches of the current epoch not handed out yet."""
        return len(self._ends) - int(np.searchsorted(self._ends, self.seen, side="right"))

    def __iter__(self) -> Iterator[PackedBatch]:
        while self.seen < len(self.windows):
            end = int(self._ends[np.searchsorted(self._ends, self.seen, side="right")])
            rows = self._order[self.seen : end]
            self.seen = end
            yield gather(self.data, self.windows.take(rows), time=self.time, loss_on=self.loss_on)
        self._go_to(self.epoch + 1, 0)

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its sequences have been handed out."""
        return {"epoch": self.epoch, "seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where the loader stood that gave `state`."""
        self._go_to(state["epoch"], state["seen"])

    def _go_to(self, epoch: int, seen: int) -> None:
        self.epoch, self.seen = epoch, seen
        self._order = self._permutation()
        self._ends = self._batch_ends()

    def _permutation(self) -> Int64Array:
        return np.random.default_rng([self.seed, self.epoch]).permutation(len(self.windows))

    def _batch_ends(self) -> Int64Array:
        """[batches] how many sequences of the order have been visited after each batch."""
        count = len(self._order)
        if self.batch_tokens is None:
            return np.append(np.arange(self.batch_size, count, self.batch_size), count)
        tokens = np.cumsum(self.windows.lengths[self._order])
        ends, begin = [], 0
        while begin < count:
            before = tokens[begin - 1] if begin else 0
            begin = max(begin + 1, int(np.searchsorted(tokens, before + self.batch_tokens, side="right")))
            ends.append(begin)
        return np.array(ends, dtype=np.int64)
