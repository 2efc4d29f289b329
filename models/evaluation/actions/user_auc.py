"""GAUC: the AUC within each user, averaged over users by their impressions (Zhu et al., 2017, 1703.02091)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.actions.auc import keys_of

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UserAuc:
    """The AUC of each user's rows."""

    user: Int64Array  # [users] rising
    rows: Int64Array  # [users] impressions
    auc: Float64Array  # [users] NaN where all labels of a user are the same

    @property
    def has_both(self) -> npt.NDArray[np.bool_]:
        """[users] whether a user has both a positive and a negative row: only then there is an AUC."""
        return ~np.isnan(self.auc)

    def mean(self) -> float | None:
        """The GAUC: `sum rows_u AUC_u / sum rows_u` over users with both labels; None where nobody has."""
        both = self.has_both
        if not both.any():
            return None
        return float((self.rows[both] * self.auc[both]).sum() / self.rows[both].sum())


def user_auc(user: npt.NDArray, scores: npt.NDArray, labels: npt.NDArray) -> UserAuc:
    """The AUC of each user's rows; ties count half.

    Args:
        user: [rows] whose row it is, any whole numbers, in any order.
        scores: [rows] float32.
        labels: [rows] 0 or 1.

    Raises:
        ValueError: a score is NaN.
    """
    key = keys_of(scores)
    order = np.lexsort((key, user))
    user, key = np.asarray(user, np.int64)[order], key[order]
    positive = np.asarray(labels)[order].astype(np.int64)
    if not len(user):
        return UserAuc(user, np.zeros(0, np.int64), np.zeros(0))
    new_user = np.append(True, user[1:] != user[:-1])
    starts = np.flatnonzero(new_user | np.append(True, key[1:] != key[:-1]))  # of each score of a user
    positives = np.add.reduceat(positive, starts)
    negatives = np.diff(starts, append=len(user)) - positives
    first = np.flatnonzero(new_user[starts])  # of each user, among scores
    owner = np.cumsum(new_user[starts]) - 1
    below = np.cumsum(negatives) - negatives
    below -= below[first][owner]
    twice = np.add.reduceat(positives * (2 * below + negatives), first)
    all_positives, all_negatives = np.add.reduceat(positives, first), np.add.reduceat(negatives, first)
    pairs = all_positives * all_negatives
    auc = np.where(pairs > 0, twice / np.maximum(2 * pairs, 1), np.nan)
    return UserAuc(user[starts[first]], all_positives + all_negatives, auc)
