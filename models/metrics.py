"""Ranks of targets among all items, and what is made of them: HR, NDCG, MRR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from models.data import Int64Array

Float64Array = npt.NDArray[np.float64]
Pairs = tuple[torch.Tensor, torch.Tensor]


def rank_targets(scores: torch.Tensor, target: torch.Tensor, excluded: Pairs | None = None) -> torch.Tensor:
    """Rank each target: 1 plus the number of other candidates that do not score below it.

    Ties count against the target, and so does a score that is not a number. A target that is no candidate
    (it is unknown, or excluded) is a miss: its rank is infinite.

    Args:
        scores: [targets, items], float; every item is a candidate.
        target: [targets] int64 columns of `scores`; negative for an item that is not known.
        excluded: rows and columns of candidates left out, both [pairs] int64; pairs may repeat.

    Returns:
        [targets] float64 on the scores' device.
    """
    row = torch.arange(len(target), device=scores.device)
    known = target >= 0
    column = target.clamp(min=0)
    ahead = ~(scores < scores[row, column][:, None])  # [targets, items]
    candidate = known
    if excluded is not None:
        rows, columns = excluded
        ahead[rows, columns] = False
        removed = torch.zeros_like(known)
        removed[rows[columns == target[rows]]] = True
        candidate = known & ~removed
    ahead[row, column] = False
    ranks = 1.0 + ahead.sum(1).double()
    return ranks.masked_fill(~candidate, float("inf"))


def ranking_metrics(
    ranks: Float64Array, cutoffs: Sequence[int], user: Int64Array | None = None
) -> dict[str, float]:
    """Means over users of HR, NDCG and MRR at each cutoff: `hr@10`, `ndcg@10`, `mrr@10`, ...

    With one relevant item, NDCG is `1 / log2(1 + rank)` within the cutoff and 0 beyond it (Jarvelin and
    Kekalainen, 2002). A user's metrics are the means over their targets, each the one relevant item of its
    own ranking; so HR is then the share of the targets found. All are 0 where there are no users.

    Args:
        ranks: [targets] from 1; infinite for a miss.
        cutoffs: list lengths.
        user: [targets] whose target it is, any whole numbers; by default every target has a user of its own.
    """
    weight = np.ones(len(ranks))  # [targets] share in the user's mean
    users = len(ranks)
    if user is not None:
        _, place, targets = np.unique(user, return_inverse=True, return_counts=True)
        weight, users = 1.0 / targets[place], len(targets)
    metrics = {}
    for cutoff in cutoffs:
        hit = ranks <= cutoff
        share, rank, count = weight[hit], ranks[hit], max(users, 1)
        metrics[f"hr@{cutoff}"] = float(share.sum() / count)
        metrics[f"ndcg@{cutoff}"] = float((share / np.log2(1.0 + rank)).sum() / count)
        metrics[f"mrr@{cutoff}"] = float((share / rank).sum() / count)
    return metrics
