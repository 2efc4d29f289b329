"""Power laws with a floor, and the saturating law of metrics: the same with a ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from behavior.errors import UserError
from models.scaling.laws.law import Array
from models.scaling.laws.points import Columns, broadcast
from models.scaling.laws.projection import project, project_all
from models.scaling.laws.repeated import effective_of_repeated

LOWEST, HIGHEST = 0.01, 4.0
"""Exponents that are looked through."""
_GRID = 12
"""Starts a dimension."""
_STEPS = 60
"""Of reweighted least squares."""
_DECAYS = (0.1, 1000.0)


@dataclass(frozen=True)
class Term:
    """`coefficient * column^(-exponent)`."""

    column: str
    coefficient: float
    exponent: float


@dataclass(frozen=True)
class PowerLaw:
    """`L = E + sum_k A_k x_k^(-a_k)`, or `Q = C - sum_k A_k x_k^(-a_k)`.

    Attributes:
        limit: E, the floor that no size goes below, or C, the ceiling.
        terms: what is missing to it.
        rising: whether the limit is a ceiling.
        repeat_decay: R of `effective_of_repeated`, where tokens that were seen before count for less.
    """

    limit: float
    terms: tuple[Term, ...]
    rising: bool = False
    repeat_decay: float | None = None

    def predict(self, table: Columns) -> Array:
        """[rows] what the law says. Columns: of its terms, and `unique_events` with a `repeat_decay`."""
        names = [term.column for term in self.terms]
        extra = [] if self.repeat_decay is None else ["unique_events"]
        columns = broadcast(table, [*names, *extra])
        if self.repeat_decay is not None:
            columns["tokens"] = effective_of_repeated(
                columns["tokens"], columns["unique_events"], self.repeat_decay
            )
        missing = sum(term.coefficient * columns[term.column] ** -term.exponent for term in self.terms)
        return np.asarray(self.limit - missing if self.rising else self.limit + missing)

    def parameters(self) -> dict[str, float]:
        """`limit`, `coefficient of X` and `exponent of X`, and `repeat_decay` where there is one."""
        found = {"limit": self.limit}
        for term in self.terms:
            found[f"coefficient of {term.column}"] = term.coefficient
            found[f"exponent of {term.column}"] = term.exponent
        return found if self.repeat_decay is None else found | {"repeat_decay": self.repeat_decay}

    def record(self) -> dict[str, Any]:
        """As plain values."""
        sign = "-" if self.rising else "+"
        terms = [f"A{k} {term.column}^(-a{k})" for k, term in enumerate(self.terms, start=1)]
        equation = f" {sign} ".join(["C" if self.rising else "E", *terms])
        return {"kind": "power law", "equation": equation, **asdict(self)}


@dataclass(frozen=True)
class PowerForm:
    """A power law with a floor (Kaplan et al. 2020, Hoffmann et al. 2022) or a ceiling, to fit.

    Variable projection: for given exponents the rest is found by non-negative least squares, reweighted to
    Huber's loss in log space; over the exponents go a grid of starts and Nelder and Mead's simplex from the
    best of them. `PowerForm(("parameters_backbone", "tokens"))` is `L(N, D) = E + A/N^a + B/D^b`,
    `PowerForm(("flops",))` is `L(C)`, and `PowerForm(("flops",), "ndcg@10", rising=True)` the law of a
    metric that saturates.

    Attributes:
        columns: one to three, above 0.
        of: what is explained, above 0.
        rising: whether it rises to a ceiling: metrics do, losses fall.
        delta: where Huber's loss of `ln(prediction / measured)` becomes linear.
        repeats: count tokens of later epochs for less (Muennighoff et al. 2023), with a fitted decay;
            `tokens` is one of the columns, and the points have `unique_events`.
        starts: how many starts a simplex begins from.
    """

    columns: tuple[str, ...] = ("parameters_backbone", "tokens")
    of: str = "loss"
    rising: bool = False
    delta: float = 1e-3
    repeats: bool = False
    starts: int = 4

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= 3:
            raise ValueError(f"a power law has one to three columns, not {len(self.columns)}")
        if self.repeats and "tokens" not in self.columns:
            raise ValueError("epochs are counted apart in tokens: they must be one of the columns")

    @property
    def lower_is_better(self) -> bool:
        """Of losses."""
        return not self.rising

    @property
    def free(self) -> int:
        """Two parameters a column, the limit, and the decay of repeated data."""
        return 1 + 2 * len(self.columns) + self.repeats

    @property
    def needs(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.columns, "unique_events") if self.repeats else self.columns

    @cached_property
    def _grid(self) -> Array:
        values = np.geomspace(0.03, 2.0, _GRID if len(self.columns) < 3 else _GRID // 2)
        return np.array(list(product(values, repeat=len(self.columns))))

    def fit(
        self, table: Mapping[str, Array], y: Array, weight: Array, start: PowerLaw | None = None
    ) -> PowerLaw:
        """See `Form.fit`.

        Raises:
            UserError: a number is not above 0.
        """
        for name in self.needs:
            _check_positive(name, table[name])
        _check_positive(self.of, y)
        if not self.repeats:
            return self._fit(table, y, weight, start, None)[0]
        low, high = np.log(_DECAYS)
        if start is not None and start.repeat_decay is not None:
            # Bootstrap: near the estimate, as wide as it is uncertain.
            low, high = (np.log(start.repeat_decay) + step for step in (-1.5, 1.5))
            low, high = max(low, np.log(_DECAYS[0])), min(high, np.log(_DECAYS[1]))

        def lost(logarithm: float) -> float:
            return self._fit(table, y, weight, start, float(np.exp(logarithm)))[1]

        tried = np.linspace(low, high, 8)
        values = [lost(one) for one in tried]
        place = int(np.argmin(values))
        bounds = tried[max(place - 1, 0)], tried[min(place + 1, len(tried) - 1)]
        found = minimize_scalar(lost, bounds=bounds, method="bounded", options={"xatol": 1e-2})
        best = found.x if found.fun < values[place] else tried[place]
        return self._fit(table, y, weight, start, float(np.exp(best)))[0]

    def _fit(
        self,
        table: Mapping[str, Array],
        y: Array,
        weight: Array,
        start: PowerLaw | None,
        decay: float | None,
    ) -> tuple[PowerLaw, float]:
        """The best law with a given decay, and its objective."""
        values = dict(table)
        if decay is not None:
            values["tokens"] = effective_of_repeated(table["tokens"], table["unique_events"], decay)
        logarithms = np.log(np.stack([values[name] for name in self.columns], axis=1))
        middle = logarithms.mean(axis=0)
        z = np.ascontiguousarray(logarithms - middle)
        y, weight = np.ascontiguousarray(y, np.float64), np.ascontiguousarray(weight, np.float64)
        sign = -1.0 if self.rising else 1.0
        coefficients = np.zeros(len(self.columns) + 1)

        def lost(exponents: Array) -> float:
            inside = np.clip(np.exp(exponents), LOWEST, HIGHEST)
            return float(project(inside, z, y, weight, sign, self.delta, _STEPS, coefficients))

        best, reached = np.zeros(len(self.columns)), np.inf
        for begin in self._starts(start, z, y, weight, sign):
            found = minimize(
                lost,
                np.log(begin),
                method="Nelder-Mead",
                options={"xatol": 1e-5, "fatol": 1e-12, "maxfev": 250 * len(begin)},
            )
            if found.fun < reached:
                best, reached = found.x, float(found.fun)
        reached = lost(best)
        exponents = np.clip(np.exp(best), LOWEST, HIGHEST)
        scaled = coefficients[1:] * np.exp(exponents * middle)
        terms = tuple(
            Term(name, float(coefficient), float(exponent))
            for name, coefficient, exponent in zip(self.columns, scaled, exponents, strict=True)
        )
        return PowerLaw(float(coefficients[0]), terms, self.rising, decay), reached

    def _starts(self, start: PowerLaw | None, z: Array, y: Array, weight: Array, sign: float) -> list[Array]:
        if start is not None:
            return [np.array([term.exponent for term in start.terms])]
        values = project_all(self._grid, z, y, weight, sign, self.delta)
        return list(self._grid[np.argsort(values)[: self.starts]])

    def leverage(self, law: PowerLaw, table: Mapping[str, Array]) -> None:
        """None: errors are nearly absolute."""

    def residual(self, y: Array, predicted: Array) -> Array:
        """`ln(measured / predicted)`."""
        return np.log(y / np.maximum(predicted, 1e-6 * y))

    def disturbed(self, predicted: Array, residual: Array) -> Array:
        """`predicted exp(residual)`."""
        return np.asarray(predicted * np.exp(residual))

    def notes(self, law: PowerLaw) -> list[str]:
        """What of a fit is not to be trusted: exponents at a bound, terms that vanish."""
        found = []
        for term in law.terms:
            if term.coefficient == 0:
                found.append(f"no effect of {term.column} was found")
            elif not LOWEST * 1.01 < term.exponent < HIGHEST * 0.99:
                found.append(f"the exponent of {term.column} is at the bound of what is looked through")
        if law.limit == 0:
            found.append("no floor was found: the points are far from it")
        return found


def _check_positive(name: str, values: Array) -> None:
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UserError(
            f"the column '{name}' of the points has values that are not above 0",
            fix="leave such points out: a power law is of positive numbers",
        )
