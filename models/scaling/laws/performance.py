"""The Performance Law (arXiv 2412.00430): a metric by blocks, width and effective data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from behavior.errors import UserError
from behavior.wording import number_of
from models.scaling.laws.law import Array
from models.scaling.laws.points import Columns, broadcast

P1 = P2 = 0.5
_TURNS = 14
"""Starts of w3 and of w4 by where the law turns, `p1^(1/w)`: within the range of the sizes, or near to it."""
_MORE_STARTS = (-0.05, 0.05, 0.3, 1.0)
"""With no turn near the sizes."""
_DATA_STARTS = (-0.1, -0.01, 0.01, 0.1)
"""Of w5."""
_KEPT = 6


@dataclass(frozen=True)
class PerformanceLaw:
    """`P = w1 (ln N^w3 + p1/N^w3) + w2 (ln d^w4 + p1/d^w4) - (ln D^w5 + p2/D^w5) + b`.

    N are blocks, d is the width, D effective data: tokens, or tokens over their entropy. On one data set D
    does not vary and its term is part of b; w5 is None then.

    Attributes:
        w1, w2: how much depth and width weigh, of either sign.
        w3, w4: how fast either saturates.
        w5: of the data term, whose weight is 1 by definition; None without.
        b: a constant.
        p1, p2: fixed, .5 in the paper.
        blocks, width, data: the columns of N, d and D.
    """

    w1: float
    w2: float
    w3: float
    w4: float
    b: float
    w5: float | None = None
    p1: float = P1
    p2: float = P2
    blocks: str = "blocks"
    width: str = "width"
    data: str = "effective_tokens"

    def predict(self, table: Columns) -> Array:
        """[rows] the metric. Columns: blocks and width, and data where the law has their term."""
        names = [self.blocks, self.width] + ([] if self.w5 is None else [self.data])
        columns = broadcast(table, names)
        found = (
            self.w1 * _shape(columns[self.blocks], self.w3, self.p1)
            + self.w2 * _shape(columns[self.width], self.w4, self.p1)
            + self.b
        )
        return found if self.w5 is None else found - _shape(columns[self.data], self.w5, self.p2)

    @property
    def best_blocks(self) -> float | None:
        """The number of blocks with the highest metric, `p1^(1/w3)`; None where there is none."""
        return _optimum(self.w1, self.w3, self.p1)

    @property
    def best_width(self) -> float | None:
        """The width with the highest metric, `p1^(1/w4)`; None where there is none."""
        return _optimum(self.w2, self.w4, self.p1)

    def parameters(self) -> dict[str, float]:
        """The fitted ones."""
        found = {name: getattr(self, name) for name in ("w1", "w2", "w3", "w4", "b")}
        return found if self.w5 is None else found | {"w5": self.w5}

    def record(self) -> dict[str, Any]:
        """As plain values."""
        data = "" if self.w5 is None else " - (ln D^w5 + p2/D^w5)"
        equation = f"w1 (ln N^w3 + p1/N^w3) + w2 (ln d^w4 + p1/d^w4){data} + b"
        best = {"best_blocks": self.best_blocks, "best_width": self.best_width}
        return {"kind": "performance law", "equation": equation, **asdict(self), **best}


@dataclass(frozen=True)
class PerformanceForm:
    """The Performance Law, to fit by least squares.

    w1, w2 and b are linear, and w3, w4 and w5 are found by scipy with the best of them at each step (variable
    projection: in all parameters together, as with `curve_fit`, the search ends in a long valley where w1 w3
    hardly changes). It begins from ones, as the paper does, and from the best of a grid; the best of all
    counts.

    Attributes:
        of: the metric that is explained.
        blocks, width: columns of N and d.
        data: the column of D; None on one data set, where D does not vary.
        p1, p2: fixed.
    """

    of: str = "ndcg@10"
    blocks: str = "blocks"
    width: str = "width"
    data: str | None = None
    p1: float = P1
    p2: float = P2

    @property
    def columns(self) -> tuple[str, ...]:
        """Blocks, width and data."""
        return (self.blocks, self.width) if self.data is None else (self.blocks, self.width, self.data)

    needs = columns

    @property
    def lower_is_better(self) -> bool:
        """It is a metric."""
        return False

    @property
    def free(self) -> int:
        """w1 to w4 and b, and w5 with data."""
        return 5 if self.data is None else 6

    def fit(
        self, table: Mapping[str, Array], y: Array, weight: Array, start: PerformanceLaw | None = None
    ) -> PerformanceLaw:
        """See `Form.fit`.

        Raises:
            UserError: too few sizes, or scipy finds no law.
        """
        if start is None:
            self._check(table, y)
        inputs = np.stack([table[name] for name in self.columns])
        root = np.sqrt(weight)

        def off(exponents: Array) -> Array:
            return self._projected(exponents, inputs, y, root)[1]

        best: Array | None = None
        reached = np.inf
        for begin in self._starts(off, inputs) if start is None else [np.array(self._exponents(start))]:
            found = least_squares(off, begin, x_scale=0.1, xtol=1e-10, ftol=1e-12, max_nfev=400)
            if np.isfinite(found.cost) and found.cost < reached:
                best, reached = found.x, float(found.cost)
        if best is None:
            raise UserError(
                f"no performance law fits the column '{self.of}' of the points",
                fix="look at the points: the metric must vary with blocks and width",
            )
        return self._law(best, self._projected(best, inputs, y, root)[0])

    def _check(self, table: Mapping[str, Array], y: Array) -> None:
        for name in self.columns:
            sizes = len(np.unique(table[name]))
            if sizes < 3 and name != self.data:
                raise UserError(
                    f"a performance law needs three numbers of {name} at least, and the points have {sizes}",
                    fix="add sizes to the grid",
                )
            if sizes < 2:
                raise UserError(
                    f"the column '{name}' is the same in all points: its term is part of the constant",
                    fix="fit without data (data=None), or use points of several data sets or sizes of them",
                )
            if not (np.isfinite(table[name]).all() and (table[name] > 0).all()):
                raise UserError(f"the column '{name}' of the points has values that are not above 0")
        if len(y) <= self.free:
            raise UserError(
                f"{number_of(len(y), 'point is', 'points are')} too few for the "
                f"{number_of(self.free, 'parameter')} of the law"
            )

    def _projected(self, exponents: Array, inputs: Array, y: Array, root: Array) -> tuple[Array, Array]:
        """The best w1, w2 and b of given w3, w4 (and w5), and the weighted residuals."""
        shapes = [_shape(inputs[0], exponents[0], self.p1), _shape(inputs[1], exponents[1], self.p1)]
        columns = np.stack([*shapes, np.ones_like(y)], axis=1) * root[:, None]
        target = y * root
        if self.data is not None:
            target = target + _shape(inputs[2], exponents[2], self.p2) * root
        if not (np.isfinite(columns).all() and np.isfinite(target).all()):
            # A step so far that x^w overflows: `least_squares` then tries a shorter one.
            return np.zeros(columns.shape[1]), np.full_like(y, np.inf)
        linear = np.asarray(np.linalg.lstsq(columns, target, rcond=1e-12)[0], np.float64)
        return linear, np.asarray(columns @ linear - target)

    def _starts(self, off: Callable[[Array], Array], inputs: Array) -> list[Array]:
        """Ones, and the best of a grid: where the law turns among the sizes, the fit has a narrow minimum."""
        sides = []
        for sizes in inputs[:2]:
            turns = np.geomspace(max(sizes.min() / 2, 1.1), 2 * sizes.max(), _TURNS)
            sides.append([*(np.log(self.p1) / np.log(turns)), *_MORE_STARTS])
        data: tuple[tuple[float, ...], ...] = (
            ((),) if self.data is None else tuple((w,) for w in _DATA_STARTS)
        )
        grid = [np.array([*both, *w5]) for both in product(*sides) for w5 in data]
        lost = [float((off(one) ** 2).sum()) for one in grid]
        return [np.ones_like(grid[0]), *(grid[number] for number in np.argsort(lost)[:_KEPT])]

    def _exponents(self, law: PerformanceLaw) -> list[float]:
        return [law.w3, law.w4, *([] if law.w5 is None else [law.w5])]

    def _law(self, exponents: Array, linear: Array) -> PerformanceLaw:
        w1, w2, b = (float(value) for value in linear)
        w3, w4, *w5 = (float(value) for value in exponents)
        return PerformanceLaw(
            *(w1, w2, w3, w4, b, w5[0] if w5 else None),
            *(self.p1, self.p2, self.blocks, self.width, self.data or "effective_tokens"),
        )

    def leverage(self, law: PerformanceLaw, table: Mapping[str, Array]) -> Array:
        """[points] how far each point draws the law to itself, 0 to 1 (the diagonal of the hat matrix)."""
        columns = []
        for name, value in law.parameters().items():
            step = 1e-5 * max(abs(value), 1e-3)
            sides: list[dict[str, Any]] = [{name: value + side} for side in (step, -step)]
            ahead, behind = (replace(law, **side).predict(table) for side in sides)
            columns.append((ahead - behind) / (2 * step))
        basis = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
        # Directions that nothing tells apart draw nothing.
        kept = 1e-9 * basis.S[0] < basis.S
        return np.asarray((basis.U[:, kept] ** 2).sum(axis=1))

    def residual(self, y: Array, predicted: Array) -> Array:
        """`measured - predicted`."""
        return y - predicted

    def disturbed(self, predicted: Array, residual: Array) -> Array:
        """`predicted + residual`."""
        return predicted + residual

    def notes(self, law: PerformanceLaw) -> list[str]:
        """Where the paper's closed form of the best size does not apply."""
        best = {"blocks": law.best_blocks, "width": law.best_width}
        return [f"the law has no best number of {name}" for name, value in best.items() if value is None]


def _shape(x: Array, w: float, p: float) -> Array:
    """`ln x^w + p / x^w`."""
    logarithm = w * np.log(x)
    with np.errstate(over="ignore"):
        return logarithm + p * np.exp(-logarithm)


def _optimum(weight: float, w: float, p: float) -> float | None:
    # The formula is convex in ln x where its weight is positive: then p^(1/w) is the worst size.
    if weight >= 0 or w == 0:
        return None
    with np.errstate(over="ignore"):
        best = float(np.exp(np.log(p) / w))
    return best if np.isfinite(best) else None
