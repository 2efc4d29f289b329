"""Fitting a law with its uncertainty: a bootstrap over runs, intervals of parameters and predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.wording import number_of
from models.scaling.laws.cloud import Cloud
from models.scaling.laws.goodness import Goodness, enough, judged
from models.scaling.laws.law import Array, Form, Law
from models.scaling.laws.points import Columns, Points

REPLICATES = 200
LEVEL = 0.9
_NOISE = 16
"""Residuals that are drawn a replicate for the interval of a new run."""


@dataclass(frozen=True)
class Interval:
    """A number, and an interval of some level around it."""

    value: float
    low: float
    high: float

    def record(self) -> dict[str, float]:
        """As plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Prediction:
    """What a law says of some rows. [rows] each

    Attributes:
        value: the law's.
        low, high: the interval of the law: where the mean of many runs would be.
        run_low, run_high: the interval of one new run, with the scatter of runs around the law.
    """

    value: Array
    low: Array
    high: Array
    run_low: Array
    run_high: Array

    def record(self) -> dict[str, list[float]]:
        """As plain values."""
        return {name: values.tolist() for name, values in vars(self).items()}


@dataclass(frozen=True)
class FittedLaw:
    """A law with its uncertainty.

    Attributes:
        form: what was fitted.
        law: the best of all points.
        draws: the laws of the bootstrap's replicates.
        cloud: where the points are; predictions elsewhere are refused.
        in_sample: how near the law is to the points.
        residuals: of the points, in units of `Form.residual`. [points]
        runs: how many there are.
        weighted: whether the draws are of weighted runs, which are too near to the law by `widening`.
        seed: of the bootstrap.
    """

    form: Form
    law: Law
    draws: Sequence[Law]
    cloud: Cloud
    in_sample: Goodness
    residuals: Array
    runs: int
    weighted: bool = True
    seed: int = 0

    @property
    def stretch(self) -> float:
        """By which draws are taken apart from the law."""
        return self.widening if self.weighted else 1.0

    @property
    def widening(self) -> float:
        """`sqrt(runs / (runs - parameters))`: residuals of few points are too small by that."""
        spare = self.runs - self.form.free
        return math.sqrt(self.runs / spare) if spare > 0 else math.sqrt(self.runs)

    def parameters(self, level: float = LEVEL) -> dict[str, Interval]:
        """Each parameter with its interval, by percentiles of the draws, widened about the estimate."""
        found = {}
        for name, value in self.law.parameters().items():
            drawn = np.array([draw.parameters()[name] for draw in self.draws])
            found[name] = self.interval(value, drawn, level)
        return found

    def interval(self, value: float, drawn: npt.ArrayLike, level: float = LEVEL) -> Interval:
        """The interval of anything that follows from the law.

        Args:
            value: of the law.
            drawn: of each draw.
            level: of the interval.
        """
        drawn = np.asarray(drawn, np.float64)
        if not len(drawn):
            return Interval(value, math.nan, math.nan)
        low, high = np.quantile(value + self.stretch * (drawn - value), _ends(level))
        return Interval(value, float(low), float(high))

    def predict(self, table: Columns, level: float = LEVEL, *, extrapolate: float = 1.0) -> Prediction:
        """What the law says of some rows, with intervals.

        Args:
            table: the columns of the form, [rows] each or single numbers.
            level: of the intervals.
            extrapolate: the factor by which rows may lie outside of the cloud of the points, in each column;
                1: not at all, `math.inf`: anywhere.

        Raises:
            ExtrapolationError: a row lies farther outside.
        """
        self.cloud.check(table, extrapolate)
        value = self.law.predict(table)
        off = np.stack([self.form.residual(draw.predict(table), value) for draw in self.draws])
        off = self.stretch * off
        draw = np.random.default_rng([self.seed, 1])
        noise = self.widening * draw.choice(self.residuals, (_NOISE, len(off), 1))
        with_noise = (off[None] + noise).reshape(-1, len(value))
        ends = [
            self.form.disturbed(value, np.quantile(values, end, axis=0))
            for values in (off, with_noise)
            for end in _ends(level)
        ]
        return Prediction(value, *ends)

    @cached_property
    def notes(self) -> list[str]:
        """What is not to be trusted."""
        found = self.form.notes(self.law)
        if self.runs < 2 * self.form.free:
            found.append(
                f"{number_of(self.runs, 'run')} for {number_of(self.form.free, 'parameter')}: intervals "
                "are rough"
            )
        return found

    def record(self, level: float = LEVEL) -> dict[str, Any]:
        """The law, its parameters with intervals, its fit and its cloud, as plain values (JSON)."""
        return {
            "of": self.form.of,
            "columns": list(self.form.columns),
            "law": self.law.record(),
            "level": level,
            "parameters": {name: found.record() for name, found in self.parameters(level).items()},
            "runs": self.runs,
            "replicates": len(self.draws),
            "in_sample": self.in_sample.record(),
            "residual_spread": float(np.sqrt((self.residuals**2).mean()) * self.widening),
            "cloud": self.cloud.record(),
            "notes": self.notes,
        }


def fit_law(points: Points, form: Form, *, replicates: int = REPLICATES, seed: int = 0) -> FittedLaw:
    """Fit a law, and again for each replicate of a bootstrap over runs.

    In a replicate every run weighs an exponential variable of mean 1 (the fractional random weight bootstrap,
    Xu et al. 2020): unlike with drawing runs, all sizes are in every replicate. For a form that is fitted by
    least squares, in which runs at the corners of a grid draw the law to themselves, every run's residuals,
    divided by 1 less their leverage, keep their sign or change it instead (the wild bootstrap, Davidson and
    Flachaire 2008). Points of one run, such as intermediate checkpoints, have one weight or sign.

    Args:
        points: known in all columns of the form (`Points.known`).
        form: of the law.
        replicates: of the bootstrap; intervals need two.
        seed: of the weights.

    Raises:
        UserError: there are too few points, or a column is missing or not above 0.
    """
    enough(points, form)
    table = {name: points.column(name) for name in form.needs}
    y, runs = points.column(form.of), points.runs
    law = form.fit(table, y, np.ones(len(y)))
    draw = np.random.default_rng(seed)
    draws = []
    predicted, ones = law.predict(table), np.ones(len(y))
    residuals = form.residual(y, predicted)
    leverage = form.leverage(law, table)
    for _ in range(replicates):
        if leverage is None:
            weight = draw.exponential(size=runs.max() + 1)[runs]
            draws.append(form.fit(table, y, weight / weight.mean(), law))
        else:
            sign = draw.choice((-1.0, 1.0), runs.max() + 1)[runs]
            moved = sign * residuals / np.maximum(1 - leverage, 0.05)
            draws.append(form.fit(table, form.disturbed(predicted, moved), ones, law))
    return FittedLaw(
        form=form,
        law=law,
        draws=draws,
        cloud=Cloud.of(table, form.columns),
        in_sample=judged(law, points, form),
        residuals=residuals,
        runs=int(runs.max() + 1),
        weighted=leverage is None,
        seed=seed,
    )


def required(points: Points, form: Form) -> Points:
    """The points that a law can be fitted to: those known in its columns.

    Raises:
        UserError: none are.
    """
    found = points.known([*form.needs, form.of])
    if not len(found):
        raise UserError(f"no point has all of {', '.join([*form.needs, form.of])}")
    return found


def _ends(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2
