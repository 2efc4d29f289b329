"""The evaluation protocol: one target a user, every known item ranked, whatever it is that scores them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from behavior.config import Config
from behavior.errors import UserError
from models.data import Int64Array, SequenceData, repeats_targets
from models.metrics import Float64Array, Pairs, rank_targets, ranking_metrics

Split = Literal["valid", "test"]
Scorer = Callable[[Int64Array, Int64Array], torch.Tensor]
"""Scores of every known item, [users, items], for global row numbers and their targets' event indices."""

_CELLS = 1 << 26  # scores held at a time


class EvaluationConfig(Config):
    """How rankings are judged."""

    cutoffs: list[int] = Field([10, 50, 200], min_length=1, description="list lengths of HR, NDCG and MRR")
    exclude_seen: bool | Literal["auto"] = Field(
        "auto",
        description="rank without what a user had under a target behavior before; auto: if nobody repeats",
    )
    batch_size: int = Field(256, ge=1, description="users ranked at a time")


@dataclass(frozen=True)
class Targets:
    """The events to predict in one split."""

    sequence: Int64Array  # [users] global row numbers
    event: Int64Array  # [users] index of the target in the flat columns
    without_history: int
    """Users left out because nothing stands before their target."""


def find_targets(data: SequenceData, split: Split) -> Targets:
    """The first target-behavior event of every sequence's validation or test part.

    Users without one are not evaluated; those with nothing before it are left out and counted.
    """
    if split not in ("valid", "test"):
        raise UserError(f"there is no split '{split}'", fix="use valid or test")
    events = len(data.item)
    index = np.where(data.is_target(), np.arange(events), events)
    following = np.append(
        np.minimum.accumulate(index[::-1])[::-1], events
    )  # first target at or after each event
    begin = data.offsets[:-1]
    cut, end = (data.train_end, data.valid_end) if split == "valid" else (data.valid_end, data.lengths)
    target = following[begin + cut]
    found = target < begin + end
    has_history = target > begin
    sequence = np.flatnonzero(found & has_history)
    return Targets(sequence, target[sequence], int((found & ~has_history).sum()))


def seen_items(data: SequenceData, sequence: Int64Array, target: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Known items with a target behavior anywhere in the whole history before each target.

    Args:
        sequence: [users] global row numbers.
        target: [users] index of the target event.

    Returns:
        rows (into `sequence`) and item ranks (id minus the first known id), both [pairs]; pairs may repeat.
    """
    begin = data.offsets[sequence]
    lengths = target - begin
    rows = np.repeat(np.arange(len(sequence)), lengths)
    event = np.arange(len(rows)) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    counts = np.isin(data.behavior[event], data.target_behaviors) & (data.item[event] >= data.first_item)
    return rows[counts], data.item[event[counts]].astype(np.int64) - data.first_item


def excludes_seen(data: SequenceData, setting: bool | Literal["auto"]) -> bool:
    """Resolve the setting: `auto` is on where nobody's target-behavior items repeat in the training part."""
    return not repeats_targets(data) if setting == "auto" else setting


@dataclass(frozen=True)
class Ranks:
    """The ranks of one split's targets."""

    rank: Float64Array  # [users] from 1; infinite for a miss
    oov: int
    """Targets that are not known items: misses."""
    excluded: int
    """Targets that were taken out with the seen items: misses."""


def rank_all(
    data: SequenceData, targets: Targets, scorer: Scorer, *, exclude_seen: bool, batch_size: int
) -> Ranks:
    """Rank every target among all known items."""
    batch_size = max(1, min(batch_size, _CELLS // max(1, data.num_items)))
    rank = np.empty(len(targets.sequence))
    oov = excluded = 0
    for first in range(0, len(rank), batch_size):
        part = slice(first, first + batch_size)
        sequence, event = targets.sequence[part], targets.event[part]
        scores = scorer(sequence, event)
        column = torch.from_numpy(data.item[event].astype(np.int64) - data.first_item)
        pairs = _excluded(data, sequence, event, scores.device) if exclude_seen else None
        rank[part] = rank_targets(scores, column.to(scores.device), pairs).cpu().numpy()
        unknown = int((column < 0).sum())
        oov += unknown
        excluded += int(np.isinf(rank[part]).sum()) - unknown
    return Ranks(rank, oov, excluded)


def evaluate_scorer(
    data: SequenceData,
    scorer: Scorer,
    *,
    split: Split,
    config: EvaluationConfig,
    exclude_seen: bool | None = None,
) -> dict[str, Any]:
    """Rank a split and report.

    Args:
        data: the sequences.
        scorer: what is judged.
        split: valid or test.
        config: cutoffs, exclusion, batch size.
        exclude_seen: the setting already resolved, where that is known.

    Returns:
        `hr@k`, `ndcg@k`, `mrr@k` for each cutoff; `split`, `users` (evaluated), `users_without_history` (left
        out), `oov_targets` and `excluded_targets` (misses among the users), `candidates`, `exclude_seen`.
    """
    exclude = excludes_seen(data, config.exclude_seen) if exclude_seen is None else exclude_seen
    targets = find_targets(data, split)
    ranks = rank_all(data, targets, scorer, exclude_seen=exclude, batch_size=config.batch_size)
    return {
        **ranking_metrics(ranks.rank, config.cutoffs),
        "split": split,
        "users": len(ranks.rank),
        "users_without_history": targets.without_history,
        "oov_targets": ranks.oov,
        "excluded_targets": ranks.excluded,
        "candidates": data.num_items,
        "exclude_seen": exclude,
    }


def _excluded(data: SequenceData, sequence: Int64Array, event: Int64Array, device: torch.device) -> Pairs:
    rows, columns = seen_items(data, sequence, event)
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
