"""Copies: samples that stand in a batch several times (`behavior.sampling.repetition`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.data.sequences import Int64Array


@dataclass(frozen=True)
class Copies:
    """How often some samples stand in a batch.

    A copy is a run of events of its own: each event predicts the next one of the copy, the last one the
    sample's target. Positions run on from copy to copy.

    >>> twice = Copies(np.array([2, 3]), np.array([2, 1]), gap=1, apart=False)
    >>> twice.lengths, twice.inputs_of_runs, twice.first_position
    (array([4, 3]), array([2, 2, 3]), array([0, 3, 0]))
    >>> twice.events(np.array([5, 6, 7, 8, 9]))
    array([5, 6, 5, 6, 7, 8, 9])
    """

    inputs: Int64Array  # [samples] events of one copy
    count: Int64Array  # [samples] copies, at least 1
    gap: int
    """Free positions between two copies."""
    apart: bool
    """Whether each copy is a sequence of the batch, so that attention does not pass from one to the next;
    otherwise all copies of a sample are one sequence."""

    @property
    def inputs_of_runs(self) -> Int64Array:
        """[copies] events of each."""
        return np.repeat(self.inputs, self.count)

    @property
    def lengths(self) -> Int64Array:
        """[sequences of the batch] events of each."""
        return self.inputs_of_runs if self.apart else self.inputs * self.count

    @property
    def first_position(self) -> Int64Array:
        """[copies] position of the first event of each."""
        number = np.arange(int(self.count.sum())) - np.repeat(np.cumsum(self.count) - self.count, self.count)
        return number * (self.inputs_of_runs + self.gap)

    def of_sequences(self, values: Int64Array) -> Int64Array:
        """[sequences of the batch] of [samples]."""
        return self.of_runs(values) if self.apart else values

    def of_runs(self, values: Int64Array) -> Int64Array:
        """[copies] of [samples]."""
        return np.repeat(values, self.count)

    def events(self, event: Int64Array) -> Int64Array:
        """[events of all copies] of [events], sample after sample."""
        lengths = self.inputs_of_runs
        from_ = np.repeat(np.cumsum(self.inputs) - self.inputs, self.count)
        to = np.cumsum(lengths) - lengths
        return event[np.arange(int(lengths.sum())) + np.repeat(from_ - to, lengths)]
