"""Which samples make the next training step: a rule that looks at what waits, and at nothing else.

A step is chosen from a pool of samples that were taken from the epoch's order and not handed out yet. Since
the choice depends on the pool alone, the pool and the place in the order are all there is to a loader's
state, and a run goes on from it on any number of processes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from behavior.packing.balance import fill_packs, spread
from behavior.packing.cost import Cost
from models.data.loading.even import evened
from models.data.sequences import Int64Array


def sample_cost(balance_length: int | None) -> Cost:
    """What a sample of n inputs costs: `n + n^2 / balance_length`, in units of 1 / balance_length.

    The second term is attention's: at `balance_length` inputs it costs as much as everything else does.
    Without it, cost is the number of inputs.
    """
    return Cost() if balance_length is None else Cost(linear=balance_length, quadratic=1)


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

    def enough(self, lengths: Int64Array) -> bool:
        """Whether a full step can be chosen from such a pool, if not the best one."""

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

    def enough(self, lengths: Int64Array) -> bool:
        return len(lengths) >= self.batch_sequences

    def choose(self, lengths: Int64Array) -> Int64Array:
        rank = np.full(len(lengths), -1, dtype=np.int64)
        now = lengths[: self.batch_sequences]
        rank[: len(now)] = spread(self.cost.of(now), self.replicas)
        return rank


class ByTokens:
    """Samples that fill a budget of tokens on every process: the oldest of the pool, and what fits beside.

    Which samples these are `behavior.packing.fill_packs` says; each process then gets as many long and short
    ones.

    Args:
        batch_tokens: inputs (or, with a quadratic cost, what costs as much) of a step, of all processes
            together.
        replicas: processes; each has its share of the budget.
        lookahead: samples in the pool besides those that fill a step, to close the gaps with.
        cost: of a sample.
    """

    def __init__(self, batch_tokens: int, replicas: int, lookahead: int, cost: Cost) -> None:
        self.replicas, self.lookahead, self.cost = replicas, lookahead, cost
        self.budget = batch_tokens // replicas * cost.linear
        # What costs are counted in, and the budget of a process in that.
        self._capacity = cost.weights(np.empty(0, dtype=np.int64), self.budget)[1]

    @property
    def fixed_size(self) -> None:
        return None

    def holds(self, length: int) -> bool:
        """Whether a sample of so many inputs fits into the share of a process."""
        return length <= self.cost.longest(self.budget)

    def missing(self, lengths: Int64Array) -> int:
        ends = np.cumsum(self._weights(lengths), dtype=np.int64)
        total, step = int(ends[-1]) if len(ends) else 0, self._capacity * self.replicas
        # One more than fits, at least, or the pool may not be all that there is.
        lookahead = max(1, self.lookahead)
        if total <= step:  # so many more of the mean weight fill it
            return lookahead + (step - total) * len(ends) // max(1, total)
        return max(0, int(np.searchsorted(ends, step, side="right")) + lookahead - len(ends))

    def enough(self, lengths: Int64Array) -> bool:
        return int(self._weights(lengths).sum(dtype=np.int64)) >= self._capacity * self.replicas

    def choose(self, lengths: Int64Array) -> Int64Array:
        weights = self._weights(lengths)
        chosen = fill_packs(weights, self._capacity, self.replicas).astype(np.int64)
        return chosen if self.replicas == 1 else evened(weights, chosen, self.replicas, self._capacity)

    def _weights(self, lengths: Int64Array) -> Int64Array:
        return self.cost.weights(lengths, self.budget)[0]
