"""Mean and deviation of a numeric feature, over the training part: test events leak into nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa

from behavior.features.columns import Domains
from behavior.features.encode import NumberEncoder
from behavior.features.fit import Fitter
from behavior.features.numbers import weighted
from behavior.spec.dataset_spec import Feature


@dataclass(frozen=True)
class Moments:
    """A weighted count, the mean, and the sum of squared distances from it.

    Centering first keeps what a sum of squares would lose where the mean is large.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, numbers: np.ndarray, weights: np.ndarray) -> Moments:
        """Moments of numbers, each taken as often as its weight. [values] float64, int64"""
        count = int(weights.sum())
        if not count:
            return cls()
        mean = float(np.sum(weights * numbers) / count)
        return cls(count, mean, float(np.sum(weights * (numbers - mean) ** 2)))

    def merge(self, other: Moments) -> Moments:
        """Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1979), equation 2.1."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = apart**2 * self.count * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + between)

    @property
    def deviation(self) -> float:
        """What standardizing divides by: the population's standard deviation, or 1 for equal values."""
        deviation = math.sqrt(self.squares / max(self.count, 1))
        # Of equal values the rounding of the sums is left.
        return deviation if deviation > 1e-12 * abs(self.mean) else 1.0


@dataclass(frozen=True)
class MomentsFitter(Fitter[Moments]):
    """numeric, transform standardize."""

    feature: Feature

    def create(self) -> Moments:
        return Moments()

    def add(
        self,
        state: Moments,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> Moments:
        numbers, times, _ = weighted(self.feature, values, weights)
        return state.merge(Moments.of(numbers, times))

    def merge(self, states: Sequence[Moments]) -> Moments:
        return reduce(Moments.merge, states, Moments())

    def finish(self, state: Moments) -> NumberEncoder:
        return NumberEncoder(self.feature, state.mean, state.deviation)
