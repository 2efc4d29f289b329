"""An evaluation of the mean of several models' probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from behavior.errors import UserError
from models.data.sequences import SequenceData
from models.evaluation.averaged import AveragedScores
from models.evaluation.held_scores import HeldScores
from models.evaluation.ranking import Scorer
from models.evaluation.scores import Scores
from models.evaluation.targets import Targets
from models.tasks.retrieval.evaluator import RetrievalEvaluator, model_scorer
from models.tasks.task import Evaluator


def average(evaluator: Evaluator, others: Sequence[Evaluator]) -> RetrievalEvaluator:
    """The evaluator, of the mean of the probabilities of its model and those of others.

    Each model is shown what its own settings say; the rest is the evaluator's.

    Args:
        evaluator: of one of the models.
        others: of the other ones, on the same data set.

    Raises:
        UserError: one ranks no items, or is not shown the time that another one is shown.
    """
    every = [one for one in (evaluator, *others) if isinstance(one, RetrievalEvaluator)]
    if len(every) <= len(others):
        raise UserError("only runs that rank items have probabilities of items to average")
    if len({one.time for one in every}) > 1:
        raise UserError(
            "one of the runs knows when the next event happens, and another one does not",
            where="--average",
            fix="average runs of one setting of model.time",
        )
    scorers = [model_scorer(one.model, one.shown, as_logits=True) for one in every]
    every[0].scorer = _mean(scorers)
    return every[0]


def _mean(scorers: Sequence[Scorer]) -> Scorer:
    def score(data: SequenceData, targets: Targets) -> Scores:
        parts = [scorer(data, targets) for scorer in scorers]
        return AveragedScores([part for part in parts if isinstance(part, HeldScores)])

    return score
