"""Stacking: predictions of several models as one, by weights that the validation rows choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from models.evaluation.actions.losses import probabilities
from models.evaluation.actions.report import ActionEvaluation

RIDGE = 1.0
"""Penalty of the squared weights, of logits of unit variance: a thousandth of what 1,000 rows say."""


@dataclass(frozen=True)
class Stacked:
    """`logits @ weights + intercept` (Wolpert, 1992; of logits, as in Breiman, 1996)."""

    weights: npt.NDArray[np.float64]
    intercept: float

    def __call__(self, logits: npt.NDArray) -> npt.NDArray[np.float32]:
        """[rows] of [rows, models]."""
        found: npt.NDArray[np.float32] = (logits @ self.weights + self.intercept).astype(np.float32)
        return found


def fit_stack(logits: npt.NDArray, labels: npt.NDArray) -> Stacked:
    """Logistic regression on the logits of models, by Newton's method, with a small ridge.

    Args:
        logits: [rows, models] finite.
        labels: [rows] 0 or 1.
    """
    x, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    center, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.column_stack([(x - center) / scale, np.ones(len(x))])
    penalty = np.full(design.shape[1], RIDGE)
    penalty[-1] = 0.0
    w = np.zeros(design.shape[1])
    for _ in range(50):
        p = probabilities(design @ w)
        hessian = (design * (p * (1 - p) + 1e-12)[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, design.T @ (p - y) + penalty * w)
        w = w - step
        if np.abs(step).max() < 1e-10:
            break
    weights = w[:-1] / scale
    return Stacked(weights, float(w[-1] - center @ weights))


def stacked(
    ours: ActionEvaluation,
    names: Sequence[str],
    valid: Sequence[Sequence[ActionEvaluation]],
    judged: Sequence[Sequence[ActionEvaluation]],
) -> ActionEvaluation:
    """The evaluation of all models together.

    Args:
        ours: of the first one, on the rows that are judged.
        names: of the models.
        valid: of each model its evaluations on the validation part: one of all labels, or one a label.
        judged: the same, of the rows that are judged.

    Raises:
        UserError: a label is a number, models were judged on different rows, or validation has none of both
            kinds.
    """
    predicted = np.full_like(ours.predicted, np.nan)
    weights = {}
    for number, label in enumerate(ours.rows.labels):
        if not label.is_binary:
            raise UserError("numbers have no logits to stack", where=f"label {label.name}")
        truth, past = _columns(valid, number, names)
        if len(np.unique(truth)) < 2:
            raise UserError(
                "the validation part has no rows of both kinds to choose weights by",
                where=f"label {label.name}",
            )
        found = fit_stack(past, truth)
        known = ~np.isnan(ours.rows.label[:, number])
        predicted[known, number] = found(_columns(judged, number, names)[1])
        weights[label.name] = dict(zip(names, found.weights.tolist(), strict=True))
    one = weights if len(weights) > 1 else next(iter(weights.values()))
    return ActionEvaluation(
        ours.rows,
        predicted,
        ours.split,
        ours.config,
        ours.shards,
        ours.about | {"stacked": one},
        ours.negatives,
    )


def _columns(
    models: Sequence[Sequence[ActionEvaluation]], number: int, names: Sequence[str]
) -> tuple[npt.NDArray, npt.NDArray]:
    """[rows] labels and [rows, models] logits of the rows that have a label."""
    columns, rows = [], []
    for each in models:
        evaluation, place = (each[0], number) if len(each) == 1 else (each[number], 0)
        known = ~np.isnan(evaluation.rows.label[:, place])
        rows.append(evaluation.rows.take(known))
        columns.append(evaluation.predicted[known, place])
        truth = rows[-1].label[:, place]
        if len(rows) == 1:
            first = truth
        same = len(truth) == len(first) and bool((truth == first).all())
        if not same or any((rows[-1].item != rows[0].item).tolist()):
            raise UserError(
                f"'{names[len(rows) - 1]}' predicts other rows, or another label, than '{names[0]}'",
                where="--stack",
                fix="name runs of the same task.label and data set, with the same negatives",
            )
    return first, np.column_stack(columns)
