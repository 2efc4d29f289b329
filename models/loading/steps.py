"""Which samples make the next training step: a rule that looks at what waits, and at nothing else.

A step is chosen from a pool of samples that were taken from the epoch's order and not handed out yet. Since
the choice depends on the pool alone, the pool and the place in the order are all there is to a loader's
state, and a run goes on from it on any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from behavior.balance import fill_packs, spread
from models.data import Int64Array

_MOST_UNITS = 1 << 30


@dataclass(frozen=True)
class Cost:
    """What a sample of n inputs costs: `n + n^2 / balance_length`.

    The second term is attention's. At `balance_length` inputs it costs as much as everything else does.
    Without it, cost is the number of inputs.
    """

    balance_length: int | None = None

    @property
    def linear(self) -> float:
        """Factor of n in units of `of`."""
        return self.balance_length or 1

    @property
    def quadratic(self) -> float:
        """Factor of n^2 in units of `of`."""
        return 0 if self.balance_length is None else 1

    def of(self, lengths: Int64Array) -> Int64Array:
        """[samples] costs in units of 1 / balance_length, exact."""
        return lengths if self.balance_length is None else lengths * (lengths + self.balance_length)

    def budget(self, tokens: int) -> int:
        """`tokens` in the units of `of`."""
        return tokens * (self.balance_length or 1)


class StepRule(Protocol):
    """How steps are made of a pool."""

    cost: Cost

    @property
    def fixed_size(self) -> int | None:
        """Samples of a step, the oldest of the pool, where that is a number."""

    def missing(self, lengths: Int64Array) -> int:
        """How many more samples the pool should have before a step is chosen from it; 0: enough.

        Args:
            lengths: [pool] inputs of each sample, in the epoch's order.
        """

    def choose(self, lengths: Int64Array) -> Int64Array:
        """[pool] the process that gets each sample in this step, or -1 for those that wait."""


class BySequences:
    """The next `batch_sequences` samples in order, spread over processes so that each has as much to do.

    The samples of a step do not depend on the number of processes.
    """

    def __init__(self, batch_sequences: int, replicas: int, cost: Cost) -> None:
        self.batch_sequences, self.replicas, self.cost = batch_sequences, replicas, cost

    @property
    def fixed_size(self) -> int:
        return self.batch_sequences

    def missing(self, lengths: Int64Array) -> int:
        return max(0, self.batch_sequences - len(lengths))

    def choose(self, lengths: Int64Array) -> Int64Array:
        rank = np.full(len(lengths), -1, dtype=np.int64)
        now = lengths[: self.batch_sequences]
        rank[: len(now)] = spread(self.cost.of(now), self.replicas)
        return rank


class ByTokens:
    """Samples that fill a budget of tokens on every process: the oldest of the pool, and what fits beside.

    Args:
        batch_tokens: inputs (or, with a cost, what costs as much) of a step, of all processes together.
        replicas: processes; each has its share of the budget.
        lookahead: samples in the pool besides those that fill a step, to close the gaps with.
        cost: of a sample.
    """

    def __init__(self, batch_tokens: int, replicas: int, lookahead: int, cost: Cost) -> None:
        self.replicas, self.lookahead, self.cost = replicas, lookahead, cost
        self.budget = cost.budget(batch_tokens // replicas)
        # Packing counts in 32 bits; rounded up, so that no budget is ever exceeded.
        self.scale = max(1, -(-self.budget // _MOST_UNITS))

    @property
    def fixed_size(self) -> None:
        return None

    def holds(self, length: int) -> bool:
        """Whether a sample of so many inputs fits into the share of a process."""
        return int(self._weights(np.array([length]))[0]) <= self.budget // self.scale

    def missing(self, lengths: Int64Array) -> int:
        ends = np.cumsum(self._weights(lengths))
        total = int(ends[-1]) if len(ends) else 0
        # One more than fits, at least, or the pool may not be all that there is.
        lookahead = max(1, self.lookahead)
        if total <= self._capacity:  # so many more of the mean weight fill a step
            return lookahead + (self._capacity - total) * len(ends) // max(1, total)
        filling = int(np.searchsorted(ends, self._capacity, side="right"))
        return max(0, filling + lookahead - len(ends))

    def choose(self, lengths: Int64Array) -> Int64Array:
        weights = self._weights(lengths)
        return fill_packs(weights, self.budget // self.scale, self.replicas).astype(np.int64)

    @property
    def _capacity(self) -> int:
        return self.budget // self.scale * self.replicas

    def _weights(self, lengths: Int64Array) -> Int64Array:
        return -(-self.cost.of(lengths) // self.scale)
