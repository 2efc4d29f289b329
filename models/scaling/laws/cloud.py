"""Where points lie, and how far from them something else is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from behavior.errors import UserError
from models.scaling.laws.law import Array
from models.scaling.laws.points import Columns, broadcast

_SLACK = 1e-6
"""Of logarithms: points on the edge of the cloud are in it."""


class ExtrapolationError(UserError):
    """A law is asked about what lies outside of the points that it was fitted to."""


@dataclass(frozen=True)
class Cloud:
    """The convex hull of the logarithms of points.

    Attributes:
        columns: its coordinates.
        logarithms: of the points. [points, columns]
    """

    columns: tuple[str, ...]
    logarithms: Array

    @classmethod
    def of(cls, table: Columns, columns: Sequence[str]) -> Cloud:
        """The cloud of the points of a table."""
        values = broadcast(table, columns)
        return cls(tuple(columns), np.unique(np.log(np.stack([values[c] for c in columns], 1)), axis=0))

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and the highest value of each column."""
        low, high = np.exp(self.logarithms.min(axis=0)), np.exp(self.logarithms.max(axis=0))
        return {name: (float(low[k]), float(high[k])) for k, name in enumerate(self.columns)}

    def factors(self, table: Columns) -> Array:
        """[rows] by which factor the columns of a row must be changed at most to be in the hull; 1: it is."""
        values = broadcast(table, self.columns)
        rows = np.log(np.stack([values[name] for name in self.columns], axis=1))
        return np.array([self._factor(row) for row in rows])

    def _factor(self, row: Array) -> float:
        """`exp` of the distance to the hull in the maximum norm, by linear programming."""
        points = len(self.logarithms)
        # Unknown are the weights of the points, and the distance, which is to be small.
        ones = np.ones((len(row), 1))
        below = np.concatenate([self.logarithms.T, -ones], axis=1)
        above = np.concatenate([-self.logarithms.T, -ones], axis=1)
        found = linprog(
            np.concatenate([np.zeros(points), [1.0]]),
            A_ub=np.concatenate([below, above]),
            b_ub=np.concatenate([row, -row]),
            A_eq=np.concatenate([np.ones(points), [0.0]])[None],
            b_eq=[1.0],
            method="highs",
        )
        distance = float(found.fun) if found.status == 0 else np.inf
        return 1.0 if distance <= _SLACK else float(np.exp(distance))

    def check(self, table: Columns, extrapolate: float) -> None:
        """Refuse rows outside of the cloud.

        Args:
            table: with the columns of the cloud.
            extrapolate: the factor by which a row may lie outside; 1: not at all.

        Raises:
            ExtrapolationError: one lies farther outside.
        """
        if np.isinf(extrapolate):
            return
        factors = self.factors(table)
        worst = int(np.argmax(factors))
        if factors[worst] <= extrapolate * (1 + _SLACK):
            return
        values = broadcast(table, self.columns)
        asked = ", ".join(
            f"{name} {values[name][worst]:.4g} (measured: {low:.4g} to {high:.4g})"
            for name, (low, high) in self.ranges.items()
        )
        raise ExtrapolationError(
            f"a law says nothing of what lies {factors[worst]:.3g} times outside of the points that it was "
            f"fitted to: {asked}",
            fix="measure points nearer to it, or ask for it all the same: "
            f"extrapolate={factors[worst] * 1.001:.4g}",
        )

    def record(self) -> dict[str, Any]:
        """The ranges as plain values."""
        return {name: list(values) for name, values in self.ranges.items()}


def in_cloud(cloud: Cloud, table: Mapping[str, Array], extrapolate: float) -> np.ndarray:
    """[rows] bool whether each row is in a cloud, or no farther outside than a factor."""
    return cloud.factors(table) <= extrapolate * (1 + _SLACK)
