"""Rankings without a network: popularity, and what followed the last item before."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards import ShardFolder, open_shards
from behavior.storage import FolderLike
from models.data import SequenceData
from models.loading import ShardSource
from models.ranking import EvaluationConfig, Scorer, Split, Targets, evaluate_scorer

BASELINES = ("popularity", "markov")


def evaluate_baseline(
    name: str, data: FolderLike | ShardFolder, split: Split = "test", config: EvaluationConfig | None = None
) -> dict[str, Any]:
    """Judge a baseline by the protocol of the models.

    Args:
        name: `popularity` (counts of the training part) or `markov` (first order, item to item).
        data: a shard folder.
        split: valid or test.
        config: cutoffs and exclusion.

    Returns:
        As `models.ranking.evaluate_scorer`, and `model`, the name.

    Raises:
        UserError: the name is not known.
    """
    if name not in BASELINES:
        raise UserError(f"there is no baseline '{name}'", fix=did_you_mean(name, BASELINES))
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    sequences = ShardSource(shards)
    popularity = shards.items().column("train_count").to_numpy().astype(np.float64)
    scorer = popularity_scorer(popularity) if name == "popularity" else markov_scorer(sequences, popularity)
    config = config or EvaluationConfig()
    return {"model": name, **evaluate_scorer(sequences, scorer, split=split, config=config)}


def popularity_scorer(popularity: npt.NDArray[np.float64]) -> Scorer:
    """Score every item by its count, whoever asks."""
    scores = torch.from_numpy(popularity)

    def score(data: SequenceData, targets: Targets) -> torch.Tensor:
        return scores.expand(len(targets), -1)

    return score


def markov_scorer(parts: Iterable[SequenceData], popularity: npt.NDArray[np.float64]) -> Scorer:
    """Score an item by how often it came right after the last item of the history, in any training part.

    Ties, among them all items that never did, go by popularity. An unknown last item leaves popularity alone.
    """
    counts = transition_counts(parts)
    # Below one, so that it never outweighs a transition.
    backoff = popularity / (popularity.max(initial=0.0) + 1.0)

    def score(data: SequenceData, targets: Targets) -> torch.Tensor:
        last = data.item[targets.stop - 1]
        return torch.from_numpy(counts[last].toarray() + backoff)

    return score


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
