"""Fitting power laws with a floor, and the saturating law of metrics: the same with a ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from behavior.errors import UserError
from models.scaling.laws.law import Array
from models.scaling.laws.power_law import PowerLaw, Term
from models.scaling.laws.projection import project, project_all
from models.scaling.laws.repeated import effective_of_repeated

LOWEST, HIGHEST = 0.01, 4.0
"""Exponents that are looked through."""
_GRID = 12
"""Starts a dimension."""
_STEPS = 60
"""Of reweighted least squares."""
_DECAYS = (0.1, 1000.0)
"""Decays of repeated data that are looked through."""
_DECAY_STARTS = (1.0, 5.0, 25.0, 125.0)


@dataclass(frozen=True)
class PowerForm:
    """A power law with a floor (Kaplan et al. 2020, Hoffmann et al. 2022) or a ceiling, to fit.

    Variable projection: for given exponents the rest is found by non-negative least squares, reweighted to
    Huber's loss in log space; over the exponents go a grid of starts and Nelder and Mead's simplex from the
    best of them. `PowerForm(("parameters_backbone", "tokens"))` is `L(N, D) = E + A/N^a + B/D^b`,
    `PowerForm(("flops",))` is `L(C)`, and `PowerForm(("flops",), "ndcg@10", rising=True)` the law of a
    metric that saturates.

    `PowerForm(("blocks", "width", "tokens"), joint=2)` is `L = E + A/(N^a d^b) + B/D^c` with blocks N and
    width d: where b is twice a, parameters alone matter.

    Attributes:
        columns: one to three, above 0.
        of: what is explained, above 0.
        rising: whether it rises to a ceiling: metrics do, losses fall.
        delta: where Huber's loss of `ln(prediction / measured)` becomes linear.
        repeats: count tokens of later epochs for less (Muennighoff et al. 2023), with a fitted decay;
            `tokens` is one of the columns, and the points have `unique_events`.
        starts: how many starts a simplex begins from.
        joint: how many of the first columns are factors of one term.
    """

    columns: tuple[str, ...] = ("parameters_backbone", "tokens")
    of: str = "loss"
    rising: bool = False
    delta: float = 1e-3
    repeats: bool = False
    starts: int = 4
    joint: int = 1

    def __post_init__(self) -> None:
        if not 1 <= len(self.columns) <= 3:
            raise ValueError(f"a power law has one to three columns, not {len(self.columns)}")
        if not 1 <= self.joint <= len(self.columns):
            raise ValueError(f"{self.joint} of {len(self.columns)} columns cannot be factors of one term")
        if self.repeats and "tokens" not in self.columns:
            raise ValueError("epochs are counted apart in tokens: they must be one of the columns")

    @property
    def lower_is_better(self) -> bool:
        """Of losses."""
        return not self.rising

    @property
    def free(self) -> int:
        """The limit, an exponent a column, a coefficient a term, and the decay of repeated data."""
        return 1 + len(self.columns) + int(self.term_of.max()) + 1 + self.repeats

    @cached_property
    def term_of(self) -> npt.NDArray[np.int64]:
        """[columns] the number of each column's term."""
        return np.maximum(np.arange(len(self.columns)) - (self.joint - 1), 0)

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
        problem = _Problem(self, table, y, weight)
        best, reached = np.zeros(0), np.inf
        for begin in self._starts(start, problem):
            found = minimize(
                problem.lost,
                begin,
                method="Nelder-Mead",
                options={"xatol": 1e-5, "fatol": 1e-12, "maxfev": 250 * len(begin)},
            )
            if found.fun < reached:
                best, reached = found.x, float(found.fun)
        return problem.law(best)

    def _starts(self, start: PowerLaw | None, problem: _Problem) -> list[Array]:
        """Logarithms of exponents, and of the decay where there is one."""
        if start is not None:
            values = [exponent for term in start.terms for exponent in term.exponents.values()]
            return [np.log([*values, *([] if start.repeat_decay is None else [start.repeat_decay])])]
        decays: list[list[float]] = [[decay] for decay in _DECAY_STARTS] if self.repeats else [[]]
        lost, starts = [], []
        for decay in decays:
            z = problem.logarithms(decay[0] if decay else None) - problem.middle
            lost.append(
                project_all(self._grid, z, problem.y, problem.weight, problem.sign, self.term_of, self.delta)
            )
            starts += [np.log([*exponents, *decay]) for exponents in self._grid]
        return [starts[number] for number in np.argsort(np.concatenate(lost))[: self.starts]]

    def leverage(self, law: PowerLaw, table: Mapping[str, Array]) -> None:
        """None: errors are nearly absolute."""

    def residual(self, y: Array, predicted: Array) -> Array:
        """`ln(measured / predicted)`; far outside of its points a law may say less than 0, for a metric."""
        least = 1e-6 * np.maximum(np.abs(y), np.abs(predicted))
        return np.asarray(np.log(np.maximum(y, least) / np.maximum(predicted, least)))

    def disturbed(self, predicted: Array, residual: Array) -> Array:
        """`predicted exp(residual)`."""
        return np.asarray(predicted * np.exp(residual))

    def notes(self, law: PowerLaw) -> list[str]:
        """What of a fit is not to be trusted: exponents at a bound, terms that vanish."""
        found = []
        for term in law.terms:
            if term.coefficient == 0:
                found.append(f"no effect of {' and '.join(term.exponents)} was found")
                continue
            for name, exponent in term.exponents.items():
                if not LOWEST * 1.01 < exponent < HIGHEST * 0.99:
                    found.append(f"the exponent of {name} is at the bound of what is looked through")
        if law.limit == 0:
            found.append("no floor was found: the points are far from it")
        return found


class _Problem:
    """What a fit minimizes: the objective of logarithms of exponents, with the best coefficients of each."""

    def __init__(self, form: PowerForm, table: Mapping[str, Array], y: Array, weight: Array) -> None:
        self.form, self.table = form, table
        self.y = np.ascontiguousarray(y, np.float64)
        self.weight = np.ascontiguousarray(weight, np.float64)
        self.sign = -1.0 if form.rising else 1.0
        self.coefficients = np.zeros(int(form.term_of.max()) + 2)
        self.middle = self.logarithms(None).mean(axis=0)
        """Of the columns: coefficients are those at the middle of the sizes."""
        self._fixed = None if form.repeats else self.logarithms(None) - self.middle

    def logarithms(self, decay: float | None) -> Array:
        """Of the columns, in which tokens are effective ones, given a decay. [points, columns]"""
        values = dict(self.table)
        if decay is not None:
            values["tokens"] = effective_of_repeated(values["tokens"], values["unique_events"], decay)
        return np.log(np.stack([values[name] for name in self.form.columns], axis=1))

    def lost(self, free: Array) -> float:
        """The objective."""
        exponents, decay = self._split(free)
        z = self.logarithms(decay) - self.middle if self._fixed is None else self._fixed
        problem = (exponents, z, self.y, self.weight, self.sign, self.form.term_of, self.form.delta)
        return float(project(*problem, _STEPS, self.coefficients))

    def law(self, free: Array) -> PowerLaw:
        """The law with some exponents and the best coefficients."""
        self.lost(free)
        exponents, decay = self._split(free)
        terms = []
        for number, coefficient in enumerate(self.coefficients[1:]):
            own = np.flatnonzero(self.form.term_of == number)
            scaled = float(coefficient * np.exp((exponents * self.middle)[own].sum()))
            powers = [(self.form.columns[k], float(exponents[k])) for k in own]
            terms.append(Term(powers[0][0], scaled, powers[0][1], tuple(powers[1:])))
        return PowerLaw(float(self.coefficients[0]), tuple(terms), self.form.rising, decay)

    def _split(self, free: Array) -> tuple[Array, float | None]:
        count = len(self.form.columns)
        # Limited before `exp`, which a simplex that has left for the flat side would overflow.
        decay = float(np.exp(np.clip(free[count], *np.log(_DECAYS)))) if self.form.repeats else None
        return np.exp(np.clip(free[:count], *np.log((LOWEST, HIGHEST)))), decay


def _check_positive(name: str, values: Array) -> None:
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UserError(
            f"the column '{name}' of the points has values that are not above 0",
            fix="leave such points out: a power law is of positive numbers",
        )
