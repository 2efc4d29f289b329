"""Rankers without a backbone, fitted and judged on the rows of the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.labels import Label
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.rows import LabelledRows
from models.evaluation.actions.sampled import Negatives
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.names import Counts, check_counts
from models.evaluation.targets import Split
from models.rankers.calibration import Logistic, fit_logistic
from models.rankers.config import RankersConfig
from models.rankers.data import Fitting, RankerData
from models.rankers.floors import Fitted
from models.rankers.names import RANKERS, check_rankers


class Rankers:
    """Fits rankers and judges them on one split.

    Args:
        shards: the data set.
        label: what is predicted.
        split: whose rows are judged.
        counts: what rankers have seen: `train`, the training parts; or `train+valid`, those of the validation
            parts, too, with the settings and the calibration that a first fitting on the training parts
            chose.
        config: how rankers are fitted.
        evaluation: how they are judged.
        negatives: what stands among the rows beside those of the log; None: nothing.

    Raises:
        UserError: there are no such rows, or nothing to train on.
    """

    def __init__(
        self,
        shards: ShardFolder,
        label: Label,
        split: Split = "test",
        *,
        counts: Counts = "train",
        config: RankersConfig | None = None,
        evaluation: EvaluationConfig | None = None,
        negatives: Negatives | None = None,
    ) -> None:
        check_counts(counts, split)
        self.shards, self.split, self.counts = shards, split, counts
        self.config, self.evaluation = config or RankersConfig(), evaluation or EvaluationConfig()
        self.data = RankerData.of(shards, label, negatives)
        self.first = Fitting.first(self.data)
        self.rows, self.left_out = self._rows()

    def judge(self, name: str) -> ActionEvaluation:
        """Fit a ranker of `models.rankers.names.RANKERS`, and predict the rows."""
        check_rankers([name])
        fit = RANKERS[name].fit
        fitted = fit(self.first, self.config)
        logistic = self._calibrated(fitted)
        if self.counts == "train+valid":
            fitted = fit(self.first.again(fitted.chosen), self.config)
        score = logistic(fitted.score(self.rows))
        about: dict[str, Any] = {"model": name, "counts": self.counts}
        negatives = self.data.negatives
        if negatives is not None:
            about["negatives"] = negatives.about
            if fitted.is_logit:  # others are calibrated on rows with as many negatives as these
                score = score + negatives.correction
        predicted = score.astype(np.float32)[:, None]
        if fitted.chosen:
            on = "defaults: the validation part has no rows of both kinds"
            if self.first.valid is not None:
                on = f"{len(self.first.valid):,} validation rows"
            about |= {"chosen": fitted.chosen, "chosen_on": on}
        if self.left_out:
            about["unknown_rows"] = self.left_out
        return ActionEvaluation(
            self.rows, predicted, self.split, self.evaluation, self.shards, about, negatives
        )

    def _calibrated(self, fitted: Fitted) -> Logistic:
        if fitted.is_logit or not self.data.label.is_binary:
            return Logistic()
        rows = self.first.train if self.first.valid is None else self.first.valid
        return fit_logistic(fitted.score(rows), rows.label[:, 0])

    def _rows(self) -> tuple[LabelledRows, int]:
        every = self.data.rows(self.split)
        rows = self.data.rows(self.split, known_only=self.evaluation.known_only)
        if not len(rows):
            raise UserError(
                f"no event of the {self.split} part has the label",
                where=f"task.label = {self.data.label.name}",
                fix="name another label, or prepare the data with another split",
            )
        return rows, len(every) - len(rows)


def judge_rankers(
    rankers: Rankers, names: Sequence[str] | None = None, told: Callable[[str], None] = lambda name: None
) -> tuple[dict[str, ActionEvaluation], dict[str, str]]:
    """Several rankers on the same rows.

    Args:
        rankers: fits them.
        names: of `models.rankers.names.RANKERS`; None: all that can be had.
        told: is called with the name of each before it is fitted.

    Returns:
        name -> its evaluation; and name -> why it was left out.

    Raises:
        UserError: there is no ranker of a name, or it cannot be had.
    """
    check_rankers(names or [])
    reasons = {name: kind.reason_against() for name, kind in RANKERS.items()} if names is None else {}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    found = {}
    for name in names if names is not None else [name for name in RANKERS if name not in left_out]:
        told(name)
        found[name] = rankers.judge(name)
    return found, left_out
