"""How well a law fits: on the points that it was fitted to, and on others, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.wording import number_of
from models.scaling.laws.law import Array, Form, Law
from models.scaling.laws.points import Points

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Goodness:
    """How near a law is to some points.

    Attributes:
        points, runs: how many.
        r2: `1 - sum (y - f)^2 / sum (y - mean y)^2`, by the mean of these points: negative where their mean
            is nearer to them than the law. NaN below two points.
        error: root mean square of `y - f`.
        relative_error: mean of `|y - f| / y`.
        bias: mean of `(y - f) / y`: above 0 where the law says too little.
    """

    points: int
    runs: int
    r2: float
    error: float
    relative_error: float
    bias: float

    def record(self) -> dict[str, Any]:
        """As plain values; what is not known is None."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class HeldOut:
    """A law that was fitted to some of the points.

    Attributes:
        law: what was fitted.
        in_sample: on the points that it was fitted to.
        held_out: on the others.
    """

    law: Law
    in_sample: Goodness
    held_out: Goodness


def goodness(predicted: Array, y: Array, runs: npt.NDArray[Any]) -> Goodness:
    """Compare predictions with what was measured.

    Args:
        predicted, y: [points]
        runs: whose point each is. [points]
    """
    if not len(y):
        return Goodness(0, 0, math.nan, math.nan, math.nan, math.nan)
    off = y - predicted
    total = float(((y - y.mean()) ** 2).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = off / y
    return Goodness(
        points=len(y),
        runs=len(np.unique(runs)),
        r2=1 - float((off**2).sum()) / total if total > 0 else math.nan,
        error=float(np.sqrt((off**2).mean())),
        relative_error=float(np.abs(relative).mean()),
        bias=float(relative.mean()),
    )


def fit_points(points: Points, form: Form) -> Law:
    """The best law of all points, each weighing alike.

    Raises:
        UserError: there are too few points, or a column is missing or not above 0.
    """
    enough(points, form)
    table = {name: points.column(name) for name in form.needs}
    return form.fit(table, points.column(form.of), np.ones(len(points)))


def enough(points: Points, form: Form) -> None:
    """Raises UserError: there are no more points than parameters."""
    for name in (*form.needs, form.of):
        if not np.isfinite(points.column(name)).all():
            raise UserError(
                f"the column '{name}' is unknown in some of the points",
                fix="leave these out: Points.known",
            )
    if len(points) <= form.free:
        raise UserError(
            f"{number_of(len(points), 'point is', 'points are')} too few for the "
            f"{number_of(form.free, 'parameter')} of the law of '{form.of}'",
            fix="add runs, or fit a law of fewer columns",
        )


def judged(law: Law, points: Points, form: Form) -> Goodness:
    """How near a law is to some points."""
    if not len(points):
        return goodness(np.zeros(0), np.zeros(0), np.zeros(0))
    table = {name: points.column(name) for name in form.needs}
    return goodness(law.predict(table), points.column(form.of), points.runs)


def held_out(points: Points, form: Form, left_out: Mask) -> HeldOut:
    """Fit a law to some points, and compare it with the others.

    Args:
        points: all of them.
        form: of the law.
        left_out: [points] those that the fit does not see; runs should be left out whole (`halves`,
            `largest`).

    Raises:
        UserError: none are left out, or too few are left.
    """
    if not left_out.any():
        raise UserError("no points are left out to judge the law by")
    seen = points.where(~left_out)
    law = fit_points(seen, form)
    return HeldOut(law, judged(law, seen, form), judged(law, points.where(left_out), form))


def halves(points: Points, seed: int = 0) -> Mask:
    """[points] every other run, by a random order."""
    runs = points.runs
    order = np.random.default_rng(seed).permutation(runs.max() + 1)
    return np.asarray(order[runs] % 2 == 1)


def largest(points: Points, column: str, share: float = 0.25) -> Mask:
    """[points] the largest sizes: a share of the different values of a column, one at least."""
    values = points.column(column)
    sizes = np.unique(values)
    left = max(1, int(share * len(sizes)))
    return np.asarray(values >= sizes[-left])


def leave_sizes_out(points: Points, form: Form, column: str) -> Goodness:
    """Each size predicted by the law of all others.

    Args:
        points: all of them.
        form: of the law.
        column: whose different values are the sizes.

    Raises:
        UserError: there is one size only, or too few points are left.
    """
    values, y = points.column(column), points.column(form.of)
    sizes = np.unique(values)
    if len(sizes) < 2:
        raise UserError(f"the points have one {column}: it cannot be left out")
    predicted = np.zeros(len(y))
    for size in sizes:
        out = values == size
        law = fit_points(points.where(~out), form)
        predicted[out] = law.predict({name: points.column(name)[out] for name in form.needs})
    return goodness(predicted, y, points.runs)


@dataclass(frozen=True)
class Compared:
    """Laws beside each other on the same points.

    Attributes:
        name: of the law.
        splits: by name of a split, in-sample and held-out goodness; None where no law could be fitted.
        whole: of the law that was fitted to all points.
        notes: reasons, where a law could not be fitted.
    """

    name: str
    whole: Goodness | None
    splits: Mapping[str, HeldOut | None]
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each split: `law`, `split`, `in-sample R2`, `held-out R2` and errors, for a table."""
        found = []
        for split, both in self.splits.items():
            row: dict[str, Any] = {"law": self.name, "split": split}
            for side, part in (("in-sample", "in_sample"), ("held-out", "held_out")):
                judged_ = None if both is None else getattr(both, part).record()
                for title, name in (("R2", "r2"), ("relative error", "relative_error"), ("points", "points")):
                    row[f"{side} {title}"] = None if judged_ is None else judged_[name]
            found.append(row)
        return found


def compare(points: Points, forms: Mapping[str, Form], splits: Mapping[str, Mask]) -> list[Compared]:
    """Fit several laws on the same points, whole and by splits.

    Args:
        points: all of them.
        forms: of the laws, by name.
        splits: which points are left out, by name: `{"half": halves(points), "largest": largest(...)}`.
    """
    found = []
    for name, form in forms.items():
        notes: list[str] = []
        whole: Goodness | None = None
        parts: dict[str, HeldOut | None] = dict.fromkeys(splits)
        try:
            whole = judged(fit_points(points, form), points, form)
        except UserError as error:
            notes.append(error.what)
        for split, left_out in splits.items():
            try:
                parts[split] = held_out(points, form, left_out)
            except UserError as error:
                notes.append(f"{split}: {error.what}")
        found.append(Compared(name, whole, parts, tuple(dict.fromkeys(notes))))
    return found
