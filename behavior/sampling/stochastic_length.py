"""Stochastic length: how many inputs a sample keeps, each sample on its own or a batch together.

Training only; evaluation always sees the whole history, up to the model's length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.packing.cost import Cost

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LengthRule:
    """Stochastic length (HSTU, arXiv 2402.17152).

    A sample of n inputs, more than `threshold` = int(N^(alpha/2)), is cut to `threshold` with probability
    1 - N^alpha / n^2. N is the model's max_length.
    """

    max_length: int
    alpha: float

    @property
    def threshold(self) -> int:
        """Inputs of a sample that is cut."""
        return int(self.max_length ** (self.alpha / 2))

    def keep_probability(self, uncut: Int64Array) -> Float64Array:
        """[samples] how likely samples of so many inputs are kept whole."""
        whole = np.maximum(uncut, 1).astype(np.float64)
        return np.where(uncut > self.threshold, np.minimum(1, self.max_length**self.alpha / whole**2), 1.0)

    def lengths(self, uncut: Int64Array, draws: Float64Array) -> Int64Array:
        """Inputs of each sample, where each is cut on its own.

        Args:
            uncut: [samples] inputs of each sample when it is not cut.
            draws: [samples] random numbers in [0, 1).
        """
        return np.where(draws < self.keep_probability(uncut), uncut, np.minimum(uncut, self.threshold))

    def expected_inputs(self, uncut: Int64Array) -> Float64Array:
        """[samples] mean of `lengths` over the draws."""
        keep = self.keep_probability(uncut)
        return keep * uncut + (1 - keep) * np.minimum(uncut, self.threshold)

    def expected_cost(self, uncut: Int64Array, cost: Cost) -> float:
        """Mean cost of all the samples together; the same whatever their order."""
        cut = np.minimum(uncut, self.threshold)
        at_stake = self.keep_probability(uncut) * _cost(uncut - cut, uncut**2 - cut**2, cost)
        # An exact sum, so that no order of adding up shows.
        return float(_cost(cut.sum(), (cut**2).sum(), cost)) + math.fsum(at_stake.tolist())


def balance_lengths(
    uncut: Int64Array,
    draws: Float64Array,
    ties: tuple[Int64Array, ...],
    rule: LengthRule,
    cost: Cost,
    cap: float | None = None,
) -> Int64Array:
    """Inputs of each sample of a batch, where the cost of the whole batch is capped.

    Load-balanced stochastic length, an idea of ULTRA-HSTU (arXiv 2602.16986); the algorithm is our own. With
    each sample cut on its own, the cost of a batch is a sum of coin flips, and the device with the costliest
    batch keeps all others waiting.

    Samples stand in line by draw / keep probability; on its own, a sample is kept whole where that is below
    1. From the front of the line samples are kept whole while the cap allows it, the next one gets what is
    left, and the others are cut to the rule's threshold. Where even that costs more than the cap, all are cut
    to a lower level, the highest that the cap allows, and the front of the line gets one input more. So the
    cost never exceeds the cap, and misses it by less than one input costs, unless all are whole. No sample
    is cut to nothing: a cap below the cost of one input each is exceeded, by batches of one input each.

    Args:
        uncut: [samples] inputs of each sample when it is not cut.
        draws: [samples] random numbers in [0, 1).
        ties: numbers of the samples, such as those of sequence and window ([samples] each): they make the
            line, and so the result, independent of the order of the batch.
        rule: of stochastic length.
        cost: of a sample with so many inputs.
        cap: most that the batch may cost. Default: its expected cost where each is cut on its own.

    Returns:
        [samples] int64, at most `uncut`.

    Raises:
        UserError: the cap is not above 0.
    """
    if cap is not None and not cap > 0:
        raise UserError(f"a batch cannot cost at most {cap}", fix="use a cap above 0, or none")
    most = rule.expected_cost(uncut, cost) if cap is None else cap
    level = _highest_level(uncut, rule.threshold, cost, most)
    if level == 0:
        return np.minimum(uncut, 1)
    line = np.lexsort((*reversed(ties), draws / rule.keep_probability(uncut)))
    whole = uncut[line]
    lengths = np.minimum(whole, level)
    raised = np.minimum(whole, level + 1) if level < rule.threshold else whole
    linear, quadratic = lengths.sum(), (lengths**2).sum()
    # Cost once the first of the line, the first two and so on are raised.
    costs = _cost(linear + np.cumsum(raised - lengths), quadratic + np.cumsum(raised**2 - lengths**2), cost)
    kept = int(np.searchsorted(costs, most, side="right"))
    lengths[:kept] = raised[:kept]
    if kept < len(line):
        linear, quadratic = lengths.sum(), (lengths**2).sum()
        own = lengths[kept]
        more = np.arange(own + 1, raised[kept])
        costs = _cost(linear + more - own, quadratic + more**2 - own**2, cost)
        lengths[kept] = own + np.searchsorted(costs, most, side="right")
    result = np.empty_like(lengths)
    result[line] = lengths
    return result


def _highest_level(uncut: Int64Array, threshold: int, cost: Cost, cap: float) -> int:
    """The most inputs, up to `threshold`, to which all samples may be cut within a cap; 0: not even 1."""
    counts = np.bincount(np.minimum(uncut, threshold), minlength=threshold + 1)
    at_least = counts[::-1].cumsum()[::-1][1:]  # [levels] samples of 1 input or more, 2 or more, ...
    level = np.arange(1, threshold + 1)
    # From one level to the next, each sample that has so many inputs grows from l - 1 to l.
    costs = _cost(np.cumsum(at_least), np.cumsum((2 * level - 1) * at_least), cost)
    return int(np.searchsorted(costs, cap, side="right"))


def _cost(inputs: Any, squares: Any, cost: Cost) -> Any:
    """Cost of samples of so many inputs, and so many squared inputs, together. Exact for whole factors."""
    return cost.linear * inputs + cost.quadratic * squares
