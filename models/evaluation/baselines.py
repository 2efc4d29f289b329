"""Baselines without a network: popularity, and a first-order Markov chain over items."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.evaluation.breakdown import check_attributes
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import Scorer, rank_split
from models.evaluation.report import RankingEvaluation
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Split, Targets
from models.evaluation.within import columns_of_candidates

BASELINES = ("popularity", "markov")


def evaluate_baseline(
    name: str,
    data: FolderLike | ShardFolder,
    split: Split = "test",
    config: EvaluationConfig | None = None,
    candidates: int | None = None,
) -> dict[str, Any]:
    """Evaluate a baseline under the protocol of the models.

    Args:
        name: `popularity` (counts of the training part) or `markov` (first order, item to item).
        data: a shard folder.
        split: valid or test.
        config: metrics and protocol.
        candidates: how many known items are ranked, the first ones; None: all.

    Returns:
        `model`, the name, then as `models.evaluation.report.RankingEvaluation.report`.

    Raises:
        UserError: the name is not known, or the data cannot be broken down as asked.
    """
    if name not in BASELINES:
        raise UserError(f"there is no baseline '{name}'", fix=did_you_mean(name, BASELINES))
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    config = config or EvaluationConfig()
    check_attributes(config.by, shards)
    sequences = ShardSource(shards, columns=Columns.merged(CORE, columns_of_candidates(config, shards)))
    popularity = shards.items().column("train_count").to_numpy().astype(np.float64)
    scorer = popularity_scorer(popularity) if name == "popularity" else markov_scorer(sequences, popularity)
    rankings = rank_split(sequences, scorer, split=split, config=config, candidates=candidates)
    return {"model": name, **RankingEvaluation.of(rankings, config, shards).report()}


def popularity_scorer(popularity: npt.NDArray[np.float64]) -> Scorer:
    """Score every item by its count, whoever asks."""
    scores = torch.from_numpy(popularity)

    def score(data: SequenceData, targets: Targets) -> Scores:
        return RowScores(scores.expand(len(targets), -1))

    return score


def markov_scorer(parts: Iterable[SequenceData], popularity: npt.NDArray[np.float64]) -> Scorer:
    """Score an item by how often it came right after the last item of the history, in any training part.

    Ties, among them all items that never did, go by popularity. An unknown last item leaves popularity alone.
    """
    counts = transition_counts(parts)
    # Below one, so that it never outweighs a transition.
    backoff = popularity / (popularity.max(initial=0.0) + 1.0)

    def score(data: SequenceData, targets: Targets) -> Scores:
        return _MarkovScores(counts[data.item[targets.stop - 1]], backoff)

    return score


@dataclass(frozen=True)
class _MarkovScores(Scores):
    counts: sparse.csr_array  # [targets, items]
    backoff: npt.NDArray[np.float64]  # [items]

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def columns(self, first: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(self.counts[:, first:stop].toarray() + self.backoff[first:stop])


def transition_counts(parts: Iterable[SequenceData]) -> sparse.csr_array:
    """[item ids, known items] how often each known item followed each item in the training parts."""
    return reduce(operator.add, map(_transition_counts, parts))


def _transition_counts(data: SequenceData) -> sparse.csr_array:
    training = data.in_training()
    start = np.zeros(len(data.item), dtype=bool)
    start[data.offsets[:-1][data.lengths > 0]] = True
    following = np.flatnonzero(training & ~start & (data.item >= data.about.first_item))
    pairs = (data.item[following - 1], data.item[following] - data.about.first_item)
    shape = (data.about.num_item_ids, data.about.num_items)
    return sparse.csr_array((np.ones(len(following)), pairs), shape=shape)
