"""Bootstrap confidence intervals by user: users are resampled with all their rows.

Rows of one user are no independent draws, so users are drawn with replacement, as many as there are, and
every metric is computed anew of their rows (Efron, 1979; of clustered ROC data Rutter, 2000). The AUC of a
resample counts each row as often as its user was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from models.evaluation.actions.auc import keys_of
from models.evaluation.actions.losses import entropy, log_losses, probabilities
from models.evaluation.actions.user_auc import user_auc
from models.evaluation.bootstrap import CONFIDENCE, SEED

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

_CELLS = 1 << 22


def resampled_metrics(
    user: npt.NDArray, logits: npt.NDArray, labels: npt.NDArray, resamples: int, seed: int = SEED
) -> dict[str, Float64Array]:
    """The metrics of a binary label in bootstrap resamples of users.

    Args:
        user: [rows] whose row it is.
        logits: [rows] float32.
        labels: [rows] 0 or 1.
        resamples: how often.
        seed: of the resampling; the same users are drawn for the same users, so that two predictions of the
            same rows may be compared pair by pair.

    Returns:
        [resamples] of `auc`, `gauc`, `log_loss`, `normalized_entropy` and `calibration`; NaN where a resample
        has none.
    """
    users, place = np.unique(user, return_inverse=True)
    y = np.asarray(labels, np.float64)
    within = user_auc(user, logits, labels)
    rows, both = within.rows.astype(np.float64), within.has_both
    sums = np.stack(
        [
            rows,
            np.bincount(place, y),
            np.bincount(place, log_losses(logits, labels)),
            np.bincount(place, probabilities(logits)),
            np.where(both, rows * within.auc, 0.0),
            rows * both,
        ],
        axis=1,
    )
    order = np.argsort(keys_of(logits), kind="stable")
    ranked = keys_of(logits)[order], place[order], y[order] > 0
    parts: list[Float64Array] = []
    for drawn in _draws(len(users), resamples, seed):
        total = drawn @ sums
        areas = _areas(*ranked, drawn.astype(np.float64))
        parts.append(np.column_stack([areas, total]))
    found = np.concatenate(parts)
    auc, n, positives, loss, predicted, weighted, in_both = found.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "auc": auc,
            "gauc": weighted / in_both,
            "log_loss": loss / n,
            "normalized_entropy": loss / n / entropy(positives / n),
            "calibration": predicted / positives,
        }


def action_intervals(
    user: npt.NDArray, logits: npt.NDArray, labels: npt.NDArray, resamples: int
) -> dict[str, list[float]]:
    """The 95 % interval of each metric (`resampled_metrics`): lower and upper end.

    Resamples without the metric (of one label alone) are left out, and metrics that no resample has.
    """
    tail = (1.0 - CONFIDENCE) / 2
    ends: dict[str, list[float]] = {}
    for name, values in resampled_metrics(user, logits, labels, resamples).items():
        there = values[np.isfinite(values)]
        if len(there):
            ends[name] = np.quantile(there, [tail, 1.0 - tail]).tolist()
    return ends


def paired_actions(
    user: npt.NDArray, ours: npt.NDArray, theirs: npt.NDArray, labels: npt.NDArray, resamples: int
) -> dict[str, dict[str, object]]:
    """The difference, ours less theirs, of two predictions of the same rows, by a paired bootstrap of users.

    Returns:
        For each metric `interval` (95 %) and `share_below_zero` of the differences of resamples.
    """
    one = resampled_metrics(user, ours, labels, resamples)
    two = resampled_metrics(user, theirs, labels, resamples)
    tail = (1.0 - CONFIDENCE) / 2
    found: dict[str, dict[str, object]] = {}
    for name, values in one.items():
        difference = (values - two[name])[np.isfinite(values - two[name])]
        if len(difference):
            ends = np.quantile(difference, [tail, 1.0 - tail]).tolist()
            found[name] = {"interval": ends, "share_below_zero": float((difference < 0).mean())}
    return found


def _draws(users: int, resamples: int, seed: int) -> Iterator[Int64Array]:
    """[some resamples, users] how often each user is drawn."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _CELLS // users)
    for begin in range(0, resamples, at_once):
        times = np.full(users, 1.0 / users)
        yield generator.multinomial(users, times, size=min(at_once, resamples - begin))


@compiled
def _areas(key: np.ndarray, place: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The AUC in which row i counts `weight[r, place[i]]` times, of each resample r; keys rise."""
    areas = np.empty(len(weight))
    for resample in range(len(weight)):
        times = weight[resample]
        below, found, yes = 0.0, 0.0, 0.0
        row = 0
        while row < len(key):
            tied, hits, misses = key[row], 0.0, 0.0
            while row < len(key) and key[row] == tied:
                if positive[row]:
                    hits += times[place[row]]
                else:
                    misses += times[place[row]]
                row += 1
            found += hits * (below + 0.5 * misses)
            below += misses
            yes += hits
        areas[resample] = found / (below * yes) if below > 0 and yes > 0 else np.nan
    return areas
