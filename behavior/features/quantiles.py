"""Boundaries of buckets with equally many events of the training part in each.

Tables know all their values: their quantiles are exact. Of events a sample is kept, the same one however the
log is cut into parts: every event has a number drawn from a hash, and those with the smallest ones stay
(bottom-k sampling: Cohen and Kaplan, "Summarizing data using bottom-k sketches", PODC 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from behavior.arrow.hashing import stable_hash
from behavior.features.columns import Domains
from behavior.features.encode import BucketEncoder
from behavior.features.fit import Fitter
from behavior.features.numbers import weighted
from behavior.spec.dataset_spec import Feature

SAMPLE_SIZE = 65_536
"""Events in the sample: a bucket's share of all events is then off by 0.2 points (standard error) at most."""


def priorities_of(users: pa.Array, offsets: np.ndarray) -> np.ndarray:
    """A number for each event that is the same in every run and spreads evenly. [events] uint64

    Args:
        users: id of each row of a table of sequences; strings or integers. [rows]
        offsets: where each row's events begin. [rows + 1] int64
    """
    lengths = np.diff(offsets)
    position = np.arange(offsets[-1] - offsets[0]) - np.repeat(offsets[:-1] - offsets[0], lengths)
    # A hash of the sum: the k-th event of one user must not go with the k-th of all others.
    mixed = np.repeat(stable_hash(users), lengths) + stable_hash(pa.array(position, pa.int64()))
    return stable_hash(pa.array(mixed.view(np.int64)))


def boundaries_of(values: np.ndarray, weights: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Boundaries between buckets of equal weight; fewer where single values are too heavy.

    The k-th is the smallest value up to which there is more than `k / buckets` of the weight: a value equal
    to a boundary belongs to the bucket above it.

    Args:
        values: ascending. [values]
        weights: of the values. [values] int64
        buckets: how many.
    """
    if not len(values):
        return ()
    up_to = np.cumsum(weights)
    # In integers: up_to > k / buckets * total.
    shares = np.arange(1, buckets) * int(up_to[-1]) // buckets
    chosen = values[np.searchsorted(up_to, shares, side="right")]
    return tuple(float(value) for value in np.unique(chosen))


@dataclass(frozen=True)
class Weights:
    """Distinct numbers, ascending, and the sum of the weights of each. [values] float32, int64"""

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray) -> Weights:
        """Weights of numbers in any order, some of them equal."""
        distinct, place = np.unique(values, return_inverse=True)
        summed = np.zeros(len(distinct), np.int64)
        np.add.at(summed, place, weights)
        return cls(distinct, summed)


@dataclass(frozen=True)
class QuantileFitter(Fitter[Weights]):
    """numeric, transform buckets, exact quantiles: the state grows with the number of distinct values."""

    feature: Feature

    def create(self) -> Weights:
        return Weights(np.zeros(0, np.float32), np.zeros(0, np.int64))

    def add(
        self,
        state: Weights,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> Weights:
        numbers, times, _ = weighted(self.feature, values, weights)
        return self.merge([state, Weights(_as_compared(numbers), times)])

    def merge(self, states: Sequence[Weights]) -> Weights:
        parts = [self.create(), *states]
        return Weights.of(
            np.concatenate([part.values for part in parts]), np.concatenate([part.weights for part in parts])
        )

    def finish(self, state: Weights) -> BucketEncoder:
        assert self.feature.quantiles is not None
        return BucketEncoder(self.feature, boundaries_of(state.values, state.weights, self.feature.quantiles))


@dataclass(frozen=True)
class Sample:
    """The events with the smallest priorities, ascending by priority, then value. [sample] uint64, float32"""

    priorities: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class SampleFitter(Fitter[Sample]):
    """numeric, transform buckets, quantiles of a sample of the events that have a weight.

    Attributes:
        feature: its settings.
        size: events in the sample; fewer events than that give exact quantiles.
    """

    feature: Feature
    size: int = SAMPLE_SIZE

    def create(self) -> Sample:
        return Sample(np.zeros(0, np.uint64), np.zeros(0, np.float32))

    def add(
        self,
        state: Sample,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> Sample:
        if priorities is None:
            raise ValueError("a sample needs priorities")
        numbers, _, places = weighted(self.feature, values, weights)
        return self.merge([state, Sample(priorities[places], _as_compared(numbers))])

    def merge(self, states: Sequence[Sample]) -> Sample:
        parts = [self.create(), *states]
        priorities = np.concatenate([part.priorities for part in parts])
        values = np.concatenate([part.values for part in parts])
        if len(priorities) > self.size:
            # Sorting is the slow part; what cannot be in the sample goes before it.
            limit = np.partition(priorities, self.size - 1)[self.size - 1]
            priorities, values = priorities[priorities <= limit], values[priorities <= limit]
        order = np.lexsort((values, priorities))[: self.size]
        return Sample(priorities[order], values[order])

    def finish(self, state: Sample) -> BucketEncoder:
        assert self.feature.quantiles is not None
        values = np.sort(state.values)
        ones = np.ones(len(values), np.int64)
        return BucketEncoder(self.feature, boundaries_of(values, ones, self.feature.quantiles))


def _as_compared(numbers: np.ndarray) -> np.ndarray:
    """As float32; -0.0 becomes 0.0: they are equal, and the one that is kept would depend on the order."""
    return numbers.astype(np.float32) + np.float32(0)
