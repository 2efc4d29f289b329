"""The mean of several models' probabilities, as scores."""

from __future__ import annotations

from collections.abc import Sequence

from models.data.sequences import SequenceData
from models.evaluation.averaged import AveragedScores
from models.evaluation.held_scores import HeldScores
from models.evaluation.ranking import Scorer
from models.evaluation.scores import Scores
from models.evaluation.targets import Targets


def mean_scorer(scorers: Sequence[Scorer]) -> Scorer:
    """Scores by logarithms of mean probabilities.

    Args:
        scorers: of the models, each with logits for scores.
    """

    def score(data: SequenceData, targets: Targets) -> Scores:
        parts = [scorer(data, targets) for scorer in scorers]
        return AveragedScores([part for part in parts if isinstance(part, HeldScores)])

    return score
