"""Scores of any scale become logits, by rows whose labels are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.actions.losses import probabilities


@dataclass(frozen=True)
class Logistic:
    """`slope * (score - center) / scale + intercept`: a logit (Platt, 1999)."""

    slope: float = 1.0
    intercept: float = 0.0
    center: float = 0.0
    scale: float = 1.0

    def __call__(self, scores: npt.NDArray) -> npt.NDArray[np.float64]:
        """[rows] logits."""
        found: npt.NDArray[np.float64] = (
            self.slope * (np.asarray(scores, np.float64) - self.center) / self.scale + self.intercept
        )
        return found


def fit_logistic(scores: npt.NDArray, labels: npt.NDArray) -> Logistic:
    """Logistic regression on one score, by Newton's method; at least the maximum-likelihood intercept.

    Labels are smoothed as Platt does, `(N+ + 1)/(N+ + 2)` and `1/(N- + 2)`, so that the optimum is finite.

    Args:
        scores: [rows] finite.
        labels: [rows] 0 or 1.
    """
    y = np.asarray(labels, np.float64)
    positives = y.sum()
    y = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    x = np.asarray(scores, np.float64)
    center, scale = float(x.mean()), float(x.std())
    scale = scale if scale > 0 else 1.0
    x = (x - center) / scale
    slope, intercept = 0.0, float(np.log(y.mean() / (1 - y.mean())))
    for _ in range(50):
        p = probabilities(slope * x + intercept)
        w = p * (1 - p) + 1e-12
        gradient = np.array([((p - y) * x).sum(), (p - y).sum()])
        hessian = np.array([[(w * x * x).sum() + 1e-9, (w * x).sum()], [(w * x).sum(), w.sum()]])
        step = np.linalg.solve(hessian, gradient)
        slope, intercept = slope - float(step[0]), intercept - float(step[1])
        if np.abs(step).max() < 1e-10:
            break
    return Logistic(slope, intercept, center, scale)
