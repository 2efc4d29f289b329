"""The evaluation protocol: every known item ranked for every target, whatever it is that scores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
_CELLS = 1 << 26  # scores held at a time


class EvaluationConfig(Config):
    """How rankings are judged."""

    cutoffs: list[int] = Field([10, 50, 200], min_length=1, description="list lengths of HR, NDCG and MRR")
    exclude_seen: bool | Literal["auto"] = Field(
        "auto",
        description="rank without what a user had under a target behavior before; auto: if nobody repeats",
    )
    batch_size: int = Field(256, ge=1, description="targets ranked at a time")


@dataclass(frozen=True)
class Targets:
    """Events to predict, and the histories to predict them from."""

    sequence: Int64Array  # [targets] numbers within the data
    stop: Int64Array  # [targets] where the history ends, exclusive, in the flat columns
    event: Int64Array  # [targets] index of the target in the flat columns; at `stop` but for baskets

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: Int64Array | slice) -> Targets:
        """The targets numbered by `rows`, in that order."""
        return Targets(self.sequence[rows], self.stop[rows], self.event[rows])


Scorer = Callable[[SequenceData, Targets], torch.Tensor]
"""Scores of every known item, [targets, items], for targets that have a history in the data. They may depend
on the events before `stop` and on the time and behavior of the target, and on nothing else."""


def find_targets(data: SequenceData, split: Split) -> Targets:
    """The target-behavior events of every sequence's validation or test part: the first, or all of them.

    The history of a target is everything before it; where the part is a basket, everything before the basket.
    It may be empty. Users without a target are not evaluated.
    """
    if split not in ("valid", "test"):
        raise UserError(f"there is no split '{split}'", fix="use valid or test")
    cut, end = (data.train_end, data.valid_end) if split == "valid" else (data.valid_end, data.lengths)
    pieces = np.stack([cut, end - cut, data.lengths - end], axis=1).ravel()
    in_part = np.repeat(np.tile([False, True, False], data.num_sequences), pieces)  # [events]
    event = np.flatnonzero(in_part & data.is_target())
    sequence = np.searchsorted(data.offsets, event, side="right") - 1
    if data.about.evaluated == "first":
        first = np.diff(sequence, prepend=-1) > 0
        sequence, event = sequence[first], event[first]
    stop = (data.offsets[:-1] + cut)[sequence] if data.about.in_baskets else event
    return Targets(sequence, stop, event)


def seen_items(data: SequenceData, targets: Targets) -> tuple[Int64Array, Int64Array]:
    """Known items with a target behavior anywhere in the whole history of each target.

    Returns:
        rows (into `targets`) and item ranks (id minus the first known id), both [pairs]; pairs may repeat.
    """
    begin = data.offsets[targets.sequence]
    lengths = targets.stop - begin
    rows = np.repeat(np.arange(len(targets)), lengths)
    event = np.arange(len(rows)) + np.repeat(begin - (np.cumsum(lengths) - lengths), lengths)
    first_item = data.about.first_item
    counts = data.about.is_target()[data.behavior[event]] & (data.item[event] >= first_item)
    return rows[counts], data.item[event[counts]].astype(np.int64) - first_item


def excludes_seen(parts: Iterable[SequenceData], setting: bool | Literal["auto"]) -> bool:
    """Resolve the setting: `auto` is on where nobody's target-behavior items repeat in the training part."""
    return not repeats_targets(parts) if setting == "auto" else setting


@dataclass(frozen=True)
class Ranks:
    """The ranks of one split's targets."""

    rank: Float64Array  # [targets] from 1; infinite for a miss
    oov: int
    """Targets that are not known items: misses."""
    excluded: int
    """Targets that were taken out with the seen items: misses."""


def rank_all(
    data: SequenceData, targets: Targets, scorer: Scorer, *, exclude_seen: bool, batch_size: int
) -> Ranks:
    """Rank every target among all known items; the other targets of its basket are candidates like any."""
    batch_size = max(1, min(batch_size, _CELLS // max(1, data.about.num_items)))
    rank = np.empty(len(targets))
    oov = excluded = 0
    for first in range(0, len(rank), batch_size):
        part = slice(first, first + batch_size)
        batch = targets.take(part)
        scores = _score_once(data, batch, scorer)
        column = torch.from_numpy(data.item[batch.event].astype(np.int64) - data.about.first_item)
        pairs = _excluded(data, batch, scores.device) if exclude_seen else None
        rank[part] = rank_targets(scores, column.to(scores.device), pairs).cpu().numpy()
        unknown = int((column < 0).sum())
        oov += unknown
        excluded += int(np.isinf(rank[part]).sum()) - unknown
    return Ranks(rank, oov, excluded)


def evaluate_scorer(
    parts: Iterable[SequenceData],
    scorer: Scorer,
    *,
    split: Split,
    config: EvaluationConfig,
    exclude_seen: bool | None = None,
) -> dict[str, Any]:
    """Rank a split and report.

    Targets that nothing stands before are left out and counted. Memory follows the largest part, and takes 16
    bytes a target besides.

    Args:
        parts: the sequences; gone through once, and once before where `exclude_seen` is to be found out.
        scorer: what is judged.
        split: valid or test.
        config: cutoffs, exclusion, batch size.
        exclude_seen: the setting already resolved, where that is known.

    Returns:
        `hr@k`, `ndcg@k`, `mrr@k` for each cutoff, means over users of the means over their targets; `split`,
        `users` and `targets` (evaluated), `users_without_history` (users left out: none of their targets has
        a history) and `targets_without_history` (left out), `oov_targets` and `excluded_targets` (misses
        among the targets), `candidates`, `exclude_seen`.
    """
    exclude = excludes_seen(parts, config.exclude_seen) if exclude_seen is None else exclude_seen
    judged = [
        _judge(data, scorer, split=split, exclude_seen=exclude, batch_size=config.batch_size)
        for data in parts
    ]
    if not judged:
        raise UserError("there are no sequences to evaluate")

    def total(name: str) -> int:
        return sum(getattr(part, name) for part in judged)

    rank = np.concatenate([part.ranks.rank for part in judged])
    return {
        **ranking_metrics(rank, config.cutoffs, np.concatenate([part.user for part in judged])),
        "split": split,
        "users": total("users"),
        "targets": len(rank),
        "users_without_history": total("users_without_history"),
        "targets_without_history": total("targets_without_history"),
        "oov_targets": sum(part.ranks.oov for part in judged),
        "excluded_targets": sum(part.ranks.excluded for part in judged),
        "candidates": judged[0].candidates,
        "exclude_seen": exclude,
    }


@dataclass(frozen=True)
class _Judged:
    """What one part of the data adds to an evaluation."""

    ranks: Ranks
    user: Int64Array  # [targets] number of the target's sequence in the data set
    users: int
    users_without_history: int
    targets_without_history: int
    candidates: int


def _judge(
    data: SequenceData, scorer: Scorer, *, split: Split, exclude_seen: bool, batch_size: int
) -> _Judged:
    found = find_targets(data, split)
    targets = found.take(np.flatnonzero(found.stop > data.offsets[found.sequence]))
    users = len(np.unique(targets.sequence))
    return _Judged(
        ranks=rank_all(data, targets, scorer, exclude_seen=exclude_seen, batch_size=batch_size),
        user=data.row[targets.sequence],
        users=users,
        users_without_history=len(np.unique(found.sequence)) - users,
        targets_without_history=len(found) - len(targets),
        candidates=data.about.num_items,
    )


def _score_once(data: SequenceData, targets: Targets, scorer: Scorer) -> torch.Tensor:
    """Scores [targets, items]; targets that ask the same, as those of a basket do, are scored once."""
    asked = (targets.sequence, targets.stop, data.timestamp[targets.event], data.behavior[targets.event])
    _, first, question = np.unique(np.stack(asked), axis=1, return_index=True, return_inverse=True)
    if len(first) == len(targets):
        return scorer(data, targets)
    scores = scorer(data, targets.take(first))
    return scores[torch.from_numpy(question.reshape(-1)).to(scores.device)]


def _excluded(data: SequenceData, targets: Targets, device: torch.device) -> Pairs:
    rows, columns = seen_items(data, targets)
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
