"""Log loss of predictions, and what it would be without any."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

CLIP = 1e-7
"""Probabilities are clipped to [CLIP, 1 - CLIP]: one row that is wrong for certain costs at most 16.1."""
_LOGIT_LIMIT = math.log((1.0 - CLIP) / CLIP)


def probabilities(logits: npt.NDArray) -> Float64Array:
    """[rows] `1 / (1 + exp(-z))`, in float64."""
    z = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def log_losses(logits: npt.NDArray, labels: npt.NDArray) -> Float64Array:
    """[rows] `-y log p - (1 - y) log(1 - p)` in nats, p clipped to [`CLIP`, 1 - `CLIP`]; of logits, so that
    no digits are lost where p is near 1."""
    z = np.clip(np.asarray(logits, np.float64), -_LOGIT_LIMIT, _LOGIT_LIMIT)
    return np.logaddexp(0.0, z) - np.asarray(labels, np.float64) * z


def entropy(rate: float | npt.NDArray) -> npt.NDArray:
    """The entropy of labels that are 1 at some rate, in nats: the log loss of predicting the rate always."""
    p = np.asarray(rate, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(q > 0, -q * np.log(q), 0.0) for q in (p, 1.0 - p)]
    return terms[0] + terms[1]
