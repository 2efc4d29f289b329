"""Ranks of targets among all items, and what is made of them: HR, NDCG, MRR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Float64Array = npt.NDArray[np.float64]
Pairs = tuple[torch.Tensor, torch.Tensor]


def rank_targets(scores: torch.Tensor, target: torch.Tensor, excluded: Pairs | None = None) -> torch.Tensor:
    """Rank each target: 1 plus the number of other candidates that do not score below it.

    Ties count against the target, and so does a score that is not a number. A target that is no candidate
    (it is unknown, or excluded) is a miss: its rank is infinite.

    Args:
        scores: [users, items], float; every item is a candidate.
        target: [users] int64 columns of `scores`; negative for an item that is not known.
        excluded: rows and columns of candidates left out, both [pairs] int64; pairs may repeat.

    Returns:
        [users] float64 on the scores' device.
    """
    users = torch.arange(len(target), device=scores.device)
    known = target >= 0
    column = target.clamp(min=0)
    ahead = ~(scores < scores[users, column][:, None])  # [users, items]
    candidate = known
    if excluded is not None:
        rows, columns = excluded
        ahead[rows, columns] = False
        removed = torch.zeros_like(known)
        removed[rows[columns == target[rows]]] = True
        candidate = known & ~removed
    ahead[users, column] = False
    ranks = 1.0 + ahead.sum(1).double()
    return ranks.masked_fill(~candidate, float("inf"))


def ranking_metrics(ranks: Float64Array, cutoffs: Sequence[int]) -> dict[str, float]:
    """Means over users of HR, NDCG and MRR at each cutoff: `hr@10`, `ndcg@10`, `mrr@10`, ...

    With one relevant item, NDCG is `1 / log2(1 + rank)` within the cutoff and 0 beyond it (Jarvelin and
    Kekalainen, 2002). All are 0 where there are no users.

    Args:
        ranks: [users] from 1; infinite for a miss.
        cutoffs: list lengths.
    """
    metrics = {}
    for cutoff in cutoffs:
        hit = ranks <= cutoff
        count = max(len(ranks), 1)
        metrics[f"hr@{cutoff}"] = float(hit.sum() / count)
        metrics[f"ndcg@{cutoff}"] = float((1.0 / np.log2(1.0 + ranks[hit])).sum() / count)
        metrics[f"mrr@{cutoff}"] = float((1.0 / ranks[hit]).sum() / count)
    return metrics
