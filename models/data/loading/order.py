"""The shuffled order of an epoch's samples, known at any place without the rest."""

from __future__ import annotations

import numpy as np

from models.data.sequences import Int64Array


class EpochOrder:
    """Parts (row groups) in random order, dealt into shuffle blocks, and each block's samples shuffled.

    A shuffle block is what is in memory at a time. It takes parts until they have `shuffle_events` events
    (the last one may have fewer), so that a data set smaller than that is shuffled as a whole. The order
    depends on nothing but the arguments: neither on processes, threads nor the batches that are made of it.
    Samples are numbered by their place in it, from 0.

    Args:
        samples: [parts] samples of each part.
        events: [parts] events of each part.
        shuffle_events: events of a block, at least, but for the last.
        seed: of the run.
        epoch: from 0.
    """

    def __init__(
        self, samples: Int64Array, events: Int64Array, *, shuffle_events: int, seed: int, epoch: int
    ) -> None:
        self.seed, self.epoch = seed, epoch
        # Parts without samples, such as users who came after the training ended, need not be read.
        shuffled = np.random.default_rng([seed, epoch]).permutation(np.flatnonzero(samples))
        self.blocks: list[Int64Array] = []
        """Parts of each block, ascending: their order within it does not matter."""
        begin = gathered = 0
        for place, part in enumerate(shuffled.tolist(), 1):
            gathered += int(events[part])
            if gathered >= shuffle_events or place == len(shuffled):
                self.blocks.append(np.sort(shuffled[begin:place]))
                begin, gathered = place, 0
        sizes = [int(samples[parts].sum()) for parts in self.blocks]
        self.starts = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        """[blocks + 1] place of the first sample of each block, then the number of samples."""

    def __len__(self) -> int:
        """Samples of the epoch."""
        return int(self.starts[-1])

    def block_at(self, places: Int64Array) -> Int64Array:
        """The block of each place."""
        return np.searchsorted(self.starts, places, side="right") - 1

    def shuffled(self, block: int) -> Int64Array:
        """[samples of the block] the samples in the order they are visited, as numbers within the block."""
        size = int(self.starts[block + 1] - self.starts[block])
        return np.random.default_rng([self.seed, self.epoch, block + 1]).permutation(size)
