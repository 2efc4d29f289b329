"""Ranking metrics: HR, NDCG and MRR of each user, and their means over users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.data.sequences import Int64Array

Float64Array = npt.NDArray[np.float64]


def metric_names(cutoffs: Sequence[int]) -> list[str]:
    """The names of all metrics: `hr@10`, `ndcg@10`, `mrr@10`, ..."""
    return [f"{name}@{cutoff}" for cutoff in cutoffs for name in ("hr", "ndcg", "mrr")]


@dataclass(frozen=True)
class UserMetrics:
    """The metrics of every user: what means, intervals and comparisons are made of."""

    names: tuple[str, ...]
    """`hr@10`, `ndcg@10`, `mrr@10`, ..."""
    values: Float64Array
    """[users, metrics] means over each user's targets."""
    user: Int64Array
    """[users] whose they are, rising."""

    def means(self) -> dict[str, float]:
        """Means over users; none where there are no users: no metric of nobody is a number."""
        if not len(self.values):
            return {}
        return dict(zip(self.names, (self.values.sum(0) / len(self.values)).tolist(), strict=True))


def user_metrics(ranks: Float64Array, cutoffs: Sequence[int], user: Int64Array | None = None) -> UserMetrics:
    """HR, NDCG and MRR of each user at each cutoff.

    With one relevant item, NDCG is `1 / log2(1 + rank)` within the cutoff and 0 beyond it (Jarvelin and
    Kekalainen, 2002). A user's metrics are the means over their targets, each the one relevant item of its
    own ranking; so HR is then the share of the targets found.

    Args:
        ranks: [targets] from 1; infinite for a miss.
        cutoffs: k of HR@k, NDCG@k and MRR@k.
        user: [targets] whose target it is, any whole numbers; by default every target has a user of its own.
    """
    users = np.arange(len(ranks)) if user is None else user
    own, place, targets = np.unique(users, return_inverse=True, return_counts=True)
    gains = {
        "hr": np.ones(len(ranks)),
        "ndcg": 1.0 / np.log2(1.0 + ranks),
        "mrr": 1.0 / ranks,
    }
    columns = {
        f"{name}@{cutoff}": np.bincount(place, np.where(ranks <= cutoff, gain, 0.0), len(own)) / targets
        for cutoff in cutoffs
        for name, gain in gains.items()
    }
    return UserMetrics(tuple(columns), np.stack(list(columns.values()), axis=1), own)


def ranking_metrics(
    ranks: Float64Array, cutoffs: Sequence[int], user: Int64Array | None = None
) -> dict[str, float]:
    """Means over users of `user_metrics`."""
    return user_metrics(ranks, cutoffs, user).means()
