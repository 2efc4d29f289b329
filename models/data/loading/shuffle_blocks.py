"""Shuffle blocks: the part of an epoch's data that is in memory at a time, prefetched in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from behavior.sampling.sampler import Sampler, Units
from models.data.loading.order import EpochOrder
from models.data.loading.source import SequenceSource
from models.data.sequences import Int64Array, SequenceData, concat_sequences

T = TypeVar("T")


@dataclass(frozen=True)
class ShuffleBlock:
    """Consecutive samples of an epoch's order."""

    data: SequenceData
    units: Units
    """Samples, by number within the block."""
    lengths: Int64Array  # [samples] inputs of all copies; where batches are cut together, before they are
    copies: Int64Array | None  # [samples] how often each stands in its batch; None: all once
    visited: Int64Array  # [samples] numbers in the order they are visited
    start: int
    """Place of the first one in the epoch."""

    def at(self, places: Int64Array) -> Int64Array:
        """The numbers of the samples at these places of the epoch."""
        return self.visited[places - self.start]


class ShuffleBlockReader:
    """Makes blocks of an epoch, and reads the parts of the next one while this one is used.

    Args:
        source: the sequences.
        sampler: cuts samples from them.
        threads: row groups read at a time in the background; 0 reads where and when a block is asked for.

    Attributes:
        balanced: whether batches are cut together (load-balanced stochastic length).
    """

    def __init__(self, source: SequenceSource, sampler: Sampler, *, threads: int) -> None:
        self.source = source
        self.sampler = sampler
        stochastic = sampler.config.stochastic_length
        self.balanced = stochastic is not None and stochastic.balanced
        self._threads = ThreadPoolExecutor(threads, "lrm-read") if threads else None
        self._ahead: dict[int, Future[SequenceData]] = {}
        self._joined: tuple[list[int], SequenceData] | None = None

    def read(self, order: EpochOrder, block: int) -> ShuffleBlock:
        """A block, waiting for its parts."""
        data = self._join(order.blocks[block].tolist())
        units = self.sampler.units(data.offsets[:-1], data.train_end, data.row, order.epoch)
        lengths = (
            self.sampler.uncut(units, data.behavior)
            if self.balanced
            else self.sampler.lengths(units, data.behavior, order.epoch)
        )
        copies = self.sampler.copies(units, lengths, order.epoch)
        lengths = lengths if copies is None else lengths * copies
        return ShuffleBlock(data, units, lengths, copies, order.shuffled(block), int(order.starts[block]))

    def read_ahead(self, order: EpochOrder, block: int) -> None:
        """Begin to read the parts of a block that will be asked for."""
        parts = order.blocks[block].tolist()
        if self._threads is None or (self._joined is not None and parts == self._joined[0]):
            return
        for part in parts:
            if part not in self._ahead:
                self._ahead[part] = self._threads.submit(self.source.read, part)

    def forget(self) -> None:
        """Drop what was read ahead: another block will be asked for."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()

    def close(self) -> None:
        """Stop reading; what is not begun is not read any more."""
        self.forget()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def map(self, work: Callable[[int], T]) -> list[T]:
        """What `work` gives for every part, in order, with the threads there are."""
        parts = range(len(self.source.events))
        return list(self._threads.map(work, parts) if self._threads else map(work, parts))

    def _join(self, parts: list[int]) -> SequenceData:
        # A data set of one block is put together once, not once an epoch.
        if self._joined is None or self._joined[0] != parts:
            self._joined = None  # not two blocks at a time
            self._joined = (parts, concat_sequences(self._read_parts(parts)))
        return self._joined[1]

    def _read_parts(self, parts: list[int]) -> list[SequenceData]:
        if self._threads is None:
            return [self.source.read(part) for part in parts]
        futures = [
            self._ahead.pop(part) if part in self._ahead else self._threads.submit(self.source.read, part)
            for part in parts
        ]
        return [future.result() for future in futures]


@dataclass(frozen=True)
class Counted:
    """How much there is to train on."""

    samples: Int64Array  # [parts]
    skipped: int
    """Sequences that give no sample."""
    inputs: float
    """Expected inputs of all samples."""
    events: int
    """Different events that samples may have, over all epochs; with quotas, an upper bound."""


def count_samples(reader: ShuffleBlockReader) -> Counted:
    """Look at the cuts of all sequences once, a part at a time."""
    sampler = reader.sampler

    def look(part: int) -> tuple[int, int, float, int]:
        train_end = reader.source.train_ends(part)
        counts = sampler.counts(train_end)
        skipped, events = int((counts == 0).sum()), sampler.distinct_events(train_end)
        return int(counts.sum()), skipped, sampler.expected_inputs(train_end), events

    samples, skipped, inputs, events = zip(*reader.map(look), strict=True)
    return Counted(np.array(samples, dtype=np.int64), sum(skipped), sum(inputs), sum(events))
