"""The cost of sequences, and integer weights to pack them by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from behavior.errors import UserError
from behavior.packing.lengths import LARGEST, checked, lengths_of


@dataclass(frozen=True)
class Cost:
    """The cost of a sequence of n tokens: `linear * n + quadratic * n^2`, as attention and all else have it.

    An HSTU layer of width d takes 5 d^2 multiplications a token for its matrices and n^2 d for causal
    attention; in units of d that is `Cost(5 * d, 1)`. A pack has at most `budget / linear` tokens.

    Raises:
        UserError: a factor is negative, not finite, or both are 0.
    """

    linear: float = 1
    quadratic: float = 0

    def __post_init__(self) -> None:
        factors = (self.linear, self.quadratic)
        if not all(math.isfinite(factor) and factor >= 0 for factor in factors) or not any(factors):
            raise UserError(
                f"a cost of {self} is no cost", fix="use factors of 0 or more, at least one above 0"
            )

    def __str__(self) -> str:
        return f"{self.linear:g} n + {self.quadratic:g} n^2"

    def of(self, lengths: Any) -> np.ndarray:
        """Costs of sequences. [sequences] float64

        Args:
            lengths: tokens of each. [sequences] integer; numpy or Arrow
        """
        lengths = lengths_of(lengths).astype(np.float64)
        return self.linear * lengths + self.quadratic * lengths * lengths

    def weights(self, lengths: Any, budget: float) -> tuple[np.ndarray, int]:
        """Integers in place of costs: what keeps to their capacity never costs more than the budget.

        They are exact where both factors are integers, or fractions of a power of two, and the budget in
        that unit is below 2^31. If not, the unit is 2^-31 of the budget and costs are rounded up: n sequences
        leave at most (n + 1) * 2^-31 of a pack unused. The unit depends on the cost and the budget alone.

        Args:
            lengths: tokens of each sequence, 0 to `longest(budget)`. [sequences] integer; numpy or Arrow
            budget: of a pack, in units of this cost.

        Returns:
            weights: of each sequence, 0 to capacity. [sequences] int32
            capacity: of a pack.

        Raises:
            UserError: a sequence costs more than the budget; bad numbers.
        """
        lengths = checked_lengths(lengths, budget, self)
        linear, quadratic = Fraction(self.linear), Fraction(self.quadratic)
        unit = max(linear.denominator, quadratic.denominator)
        capacity = math.floor(Fraction(budget) * unit)
        if capacity <= LARGEST:
            if self == Cost():
                return lengths, capacity
            wide = lengths.astype(np.int64)
            return (int(linear * unit) * wide + int(quadratic * unit) * wide**2).astype(np.int32), capacity
        # A unit more than fits into the capacity is far more than the sums of floats can be wrong by; what
        # costs all of the budget takes all of a pack.
        shares = np.ceil(self.of(lengths) * ((LARGEST + 1) / budget))
        return np.minimum(shares, LARGEST).astype(np.int32), LARGEST

    def longest(self, budget: float) -> int:
        """Tokens of the longest sequence that costs at most `budget`, up to 2^31 - 1.

        Raises:
            UserError: the budget is not a number, or not above 0.
        """
        if not isinstance(budget, int | float | np.integer) or not math.isfinite(budget):
            raise UserError(f"a budget is a finite number, not {budget!r}")
        if budget <= 0:
            unit = "tokens" if self == TOKENS else f"at a cost of {self}"
            raise UserError(f"a pack of {budget:,} {unit} can hold nothing", fix="use a larger budget")
        least, beyond = 0, LARGEST + 1
        while beyond - least > 1:
            middle = (least + beyond) // 2
            if self.linear * middle + self.quadratic * middle * middle <= budget:
                least = middle
            else:
                beyond = middle
        return least


TOKENS = Cost()
"""Every token costs the same: the budget of a pack is a number of tokens."""


def checked_lengths(values: Any, budget: float, cost: Cost = TOKENS) -> np.ndarray:
    """Lengths of sequences that each fit into a pack. [sequences] int32, contiguous

    Raises:
        UserError: one is too long or negative, or they are not integers (`lengths_of`).
    """
    note = "" if cost == TOKENS else f" (of {cost} up to {budget:,})"
    return checked(values, cost.longest(budget), note=note)
