"""The compute-optimal frontier: how to divide a budget between parameters and tokens, by the fitted law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from behavior.errors import UserError
from models.scaling.laws.fitted import LEVEL, FittedLaw, Interval
from models.scaling.laws.points import Points
from models.scaling.laws.power_law import PowerLaw


@dataclass(frozen=True)
class TrainingCost:
    """`C = k N^v D`: FLOPs of training by parameters and tokens.

    Attention's operations do not grow with the parameters alone, so that v is not 1 and k not 6.

    Attributes:
        factor: k.
        exponent: v.
        error: the largest relative error on the points.
    """

    factor: float
    exponent: float
    error: float

    @classmethod
    def of(
        cls, points: Points, parameters: str = "parameters_backbone", tokens: str = "tokens"
    ) -> TrainingCost:
        """Fit it to the `flops` of points, by least squares of logarithms.

        Raises:
            UserError: a column is missing or not above 0.
        """
        flops, n, d = (points.column(name) for name in ("flops", parameters, tokens))
        if not all((values > 0).all() for values in (flops, n, d)) or not len(points):
            raise UserError(f"the columns flops, {parameters} and {tokens} must be above 0 in all points")
        logarithm, each = np.log(n), np.log(flops / d)
        if np.ptp(logarithm) < 1e-9:
            factor, exponent = float(np.exp((each - logarithm).mean())), 1.0
        else:
            exponent, constant = (float(value) for value in np.polyfit(logarithm, each, 1))
            factor = float(np.exp(constant))
        error = np.abs(factor * n**exponent * d / flops - 1).max()
        return cls(factor, exponent, float(error))

    def flops(self, parameters: float, tokens: float) -> float:
        """`k N^v D`."""
        return self.factor * parameters**self.exponent * tokens

    def tokens(self, parameters: float, flops: float) -> float:
        """How many tokens a budget pays for."""
        return flops / (self.factor * parameters**self.exponent)


@dataclass(frozen=True)
class Optimum:
    """What is best for a budget, with intervals.

    Attributes:
        flops: the budget.
        parameters, tokens: how to spend it.
        loss: what is then expected.
    """

    flops: float
    parameters: Interval
    tokens: Interval
    loss: Interval

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {"flops": self.flops} | {
            name: getattr(self, name).record() for name in ("parameters", "tokens", "loss")
        }


@dataclass(frozen=True)
class Frontier:
    """The frontier of a law `L = E + A/N^a + B/D^b` under a cost `C = k N^v D`, in closed form.

    The best N is where a part more of it costs in B/D^b what it gains in A/N^a:
    `N^(a + v b) = a A / (v b B) (C / k)^b`, so that `N ~ C^(b / (a + v b))`, `D ~ C^(a / (a + v b))` and
    `L - E ~ C^(-a b / (a + v b))` (Hoffmann et al. 2022, approach 3). No parabolas are fitted to runs of
    equal compute: their minima are biased even without noise (arXiv 2603.22339).

    Attributes:
        fitted: a law of two columns, parameters and tokens.
        cost: of training.
    """

    fitted: FittedLaw
    cost: TrainingCost

    def __post_init__(self) -> None:
        law = self.fitted.law
        if (
            not isinstance(law, PowerLaw)
            or len(law.terms) != 2
            or law.rising
            or law.repeat_decay is not None
            or any(term.others for term in law.terms)
        ):
            raise UserError(
                "a compute-optimal frontier follows from a law of the loss in parameters and tokens",
                fix="fit PowerForm(('parameters_backbone', 'tokens'))",
            )
        if any(term.coefficient == 0 for term in law.terms):
            raise UserError("the law has no term of parameters, or none of tokens: it has no best division")

    def exponents(self, level: float = LEVEL) -> dict[str, Interval]:
        """Of the best parameters, the best tokens and the loss above the floor, by compute."""
        return {
            name: self.fitted.interval(value, [_exponents(d, self.cost)[name] for d in self._draws], level)
            for name, value in _exponents(self._law, self.cost).items()
        }

    def best(self, flops: float, level: float = LEVEL, *, extrapolate: float = 1.0) -> Optimum:
        """The best division of a budget.

        Args:
            flops: of training.
            level: of the intervals.
            extrapolate: see `FittedLaw.predict`.

        Raises:
            ExtrapolationError: the best size lies outside of what was measured.
        """
        names = [term.column for term in self._law.terms]
        n, d = _division(self._law, self.cost, flops)
        self.fitted.cloud.check({names[0]: n, names[1]: d}, extrapolate)
        drawn = np.array([_division(draw, self.cost, flops) for draw in self._draws]).reshape(-1, 2)
        # Sizes vary by factors: intervals are of logarithms.
        best_n, best_d = (
            _exponential(self.fitted.interval(float(np.log(value)), np.log(drawn[:, k]), level))
            for k, value in enumerate((n, d))
        )
        loss = [float(draw.predict({names[0]: n, names[1]: d})[0]) for draw in self._draws]
        value = float(self._law.predict({names[0]: n, names[1]: d})[0])
        return Optimum(flops, best_n, best_d, self.fitted.interval(value, loss, level))

    def range(self) -> tuple[float, float]:
        """The budgets whose best size lies among what was measured; (nan, nan) where none does."""
        names = [term.column for term in self._law.terms]
        ranges = self.fitted.cloud.ranges
        corners = [self.cost.flops(ranges[names[0]][k], ranges[names[1]][k]) for k in (0, 1)]
        budgets = np.geomspace(corners[0], corners[1], 60)
        best = np.array([_division(self._law, self.cost, budget) for budget in budgets])
        inside = self.fitted.cloud.factors({names[0]: best[:, 0], names[1]: best[:, 1]}) <= 1.0
        if not inside.any():
            return float("nan"), float("nan")
        return float(budgets[inside].min()), float(budgets[inside].max())

    @property
    def _law(self) -> PowerLaw:
        law = self.fitted.law
        assert isinstance(law, PowerLaw)
        return law

    @property
    def _draws(self) -> list[PowerLaw]:
        """Draws without a term have no best division: they are left out."""
        return [
            draw
            for draw in self.fitted.draws
            if isinstance(draw, PowerLaw) and all(term.coefficient > 0 for term in draw.terms)
        ]


def _exponents(law: PowerLaw, cost: TrainingCost) -> dict[str, float]:
    a, b = (term.exponent for term in law.terms)
    total = a + cost.exponent * b
    return {"parameters": b / total, "tokens": a / total, "loss": a * b / total}


def _division(law: PowerLaw, cost: TrainingCost, flops: float) -> tuple[float, float]:
    of_n, of_d = law.terms
    a, b, v = of_n.exponent, of_d.exponent, cost.exponent
    logarithm = np.log(a * of_n.coefficient / (v * b * of_d.coefficient)) + b * np.log(flops / cost.factor)
    n = float(np.exp(logarithm / (a + v * b)))
    return n, cost.tokens(n, flops)


def _exponential(interval: Interval) -> Interval:
    return Interval(*(float(np.exp(value)) for value in (interval.value, interval.low, interval.high)))
