"""Floors: what averages and matrix factorization reach. A model is worth reporting where it passes them.

All but `rate` score by what they expect of the *graded* target (star ratings where the label is a condition
on the value), and validation rows turn scores into logits. Each is fitted on the events of the training
parts (or of validation parts, too): averages know no later event, but for `history`, which knows all before
each row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.data.sequences import Int64Array
from models.evaluation.actions.auc import auc_of
from models.evaluation.actions.rows import LabelledRows
from models.rankers.data import Fitting, Float64Array, RankerData
from models.rankers.factorization import Biases, Factors, factorize, fit_biases
from models.rankers.history import fold_in

Score = Callable[[LabelledRows], Float64Array]
"""[rows] scores of rows."""
STRENGTHS = (1.0, 3.0, 10.0, 30.0)
"""Rows that the overall mean counts for; validation chooses."""
FACTORIZATIONS = ((8, 8.0), (16, 12.0), (32, 15.0))
"""Dimension and penalty of the factorizations whose predictions are averaged."""


@dataclass(frozen=True)
class Fitted:
    """A ranker that has learned."""

    score: Score
    chosen: dict[str, Any]
    """What validation chose, for a fitting on more rows."""
    is_logit: bool = False
    """Whether the score of a binary label is a logit already."""


def rate(fitting: Fitting) -> Fitted:
    """The same for all rows: the rate of positives, or the mean."""
    mean = float(fitting.train.label.mean())
    return Fitted(lambda rows: np.full(len(rows), mean), {})


def user_mean(fitting: Fitting) -> Fitted:
    """The user's shrunk mean."""
    return _by_strength(fitting, lambda strength: _one_sided(fitting, strength, of_users=True))


def item_mean(fitting: Fitting) -> Fitted:
    """The item's shrunk mean."""
    return _by_strength(fitting, lambda strength: _one_sided(fitting, strength, of_users=False))


def bias(fitting: Fitting) -> Fitted:
    """Shrunk biases of user and item, fitted together (`fit_biases`)."""

    def make(strength: float) -> Score:
        found = _biases(fitting, strength)
        return lambda rows: found.predict(rows.sequence, rows.item)

    return _by_strength(fitting, make)


def factorization(fitting: Fitting) -> Fitted:
    """`bias`, and the mean of several matrix factorizations of its residuals."""
    strength, biases, every = _factorized(fitting)

    def score(rows: LabelledRows) -> Float64Array:
        explained = [factors.predict(rows.sequence, rows.item) for factors in every]
        found: Float64Array = biases.predict(rows.sequence, rows.item) + np.mean(explained, axis=0)
        return found

    return Fitted(score, {"strength": strength})


def history(fitting: Fitting) -> Fitted:
    """`factorization` of items; the user's part is the ridge regression on the history before the row."""
    strength, biases, every = _factorized(fitting)
    data = fitting.data
    residual = data.graded - biases.mean - biases.item[data.sequences.item]

    def score(rows: LabelledRows) -> Float64Array:
        parts = []
        for factors, (dim, penalty) in zip(every, FACTORIZATIONS, strict=True):
            vectors = np.column_stack([np.ones(len(factors.item)), factors.item])
            penalties = np.array([strength, *[penalty] * dim])
            parts.append(_folded(data, rows, residual, vectors, penalties))
        found: Float64Array = biases.mean + biases.item[rows.item] + np.mean(parts, axis=0)
        return found

    return Fitted(score, {"strength": strength})


def _folded(
    data: RankerData,
    rows: LabelledRows,
    residual: Float64Array,
    vectors: Float64Array,
    penalties: Float64Array,
) -> Float64Array:
    order = np.lexsort((rows.stop, rows.sequence))
    begin = data.sequences.offsets[rows.sequence]
    columns = (begin[order], (begin + rows.stop)[order], rows.item[order])
    found = np.empty(len(rows))
    found[order] = fold_in(*columns, data.sequences.item, residual, vectors, penalties)
    return found


def _counted(fitting: Fitting) -> tuple[Int64Array, Int64Array, Float64Array]:
    """User, item and graded target of the events that are counted; of rows, where some are no events."""
    data = fitting.data
    if data.negatives is not None:
        rows = fitting.train
        return rows.sequence, rows.item.astype(np.int64), rows.label[:, 0].astype(np.float64)
    events = data.counted(fitting.part)
    return data.owner[events], data.sequences.item[events].astype(np.int64), data.graded[events]


def _biases(fitting: Fitting, strength: float) -> Biases:
    return fit_biases(*_counted(fitting), fitting.data.users, fitting.data.items, strength)


def _one_sided(fitting: Fitting, strength: float, *, of_users: bool) -> Score:
    user, item, target = _counted(fitting)
    owner, count = (user, fitting.data.users) if of_users else (item, fitting.data.items)
    mean = float(target.mean()) if len(target) else 0.0
    total = np.bincount(owner, target - mean, count)
    found = mean + total / (np.bincount(owner, minlength=count) + strength)
    return lambda rows: found[rows.sequence if of_users else rows.item]


def _by_strength(fitting: Fitting, make: Callable[[float], Score]) -> Fitted:
    """The strength that is best on validation: by AUC, of numbers by squared error."""
    strength = fitting.chosen.get("strength")
    if strength is None:
        strength = STRENGTHS[2]
        if fitting.valid is not None:
            valid = fitting.valid
            strength = max(STRENGTHS, key=lambda each: _goodness(make(each)(valid), valid))
    return Fitted(make(strength), {"strength": strength})


def _goodness(score: Float64Array, rows: LabelledRows) -> float:
    truth = rows.label[:, 0]
    if rows.labels[0].is_binary:
        return auc_of(score, truth) or 0.0
    return -float(((score - truth) ** 2).mean())


def _factorized(fitting: Fitting) -> tuple[float, Biases, list[Factors]]:
    """Strength, biases and factors, of which two floors are made."""
    found: tuple[float, Biases, list[Factors]] | None = fitting.kept.get("factorization")
    if found is None:
        found = fitting.kept["factorization"] = _factorize(fitting)
    return found


def _factorize(fitting: Fitting) -> tuple[float, Biases, list[Factors]]:
    strength = bias(fitting).chosen["strength"]
    biases = _biases(fitting, strength)
    user, item, target = _counted(fitting)
    residual = target - biases.predict(user, item)
    users, items = fitting.data.users, fitting.data.items
    every = [
        factorize(user, item, residual, users, items, dim=dim, penalty=penalty)
        for dim, penalty in FACTORIZATIONS
    ]
    return strength, biases, every
