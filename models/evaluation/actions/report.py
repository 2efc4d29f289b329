"""What there is to say of predictions of labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.intervals import action_intervals
from models.evaluation.actions.labels import Label
from models.evaluation.actions.meter import Meter
from models.evaluation.actions.names import METRICS
from models.evaluation.actions.rows import LabelledRows
from models.evaluation.actions.sampled import Negatives
from models.evaluation.config import EvaluationConfig
from models.evaluation.report import split_facts
from models.evaluation.slices import HISTORY_BOUNDS, POPULARITY, popularity_buckets
from models.evaluation.targets import Split


@dataclass(frozen=True)
class ActionEvaluation:
    """Predictions of the labelled rows of one split, judged; an `Evaluation` (`models.tasks.task`)."""

    rows: LabelledRows
    predicted: npt.NDArray[np.float32]
    """[rows, labels] logits of binary labels, numbers of others."""
    split: Split
    config: EvaluationConfig
    shards: ShardFolder
    about: dict[str, Any] = field(default_factory=dict)
    """What predicted, and whatever else the report is to say."""
    negatives: Negatives | None = None
    """What stands among the rows beside those of the log."""

    def report(self) -> dict[str, Any]:
        """Everything there is to say; docs/ranking.md describes each field.

        Returns:
            `split`, `users` and `rows`; `about` and how the data set is split; and for one label what
            `judge_label` says. With several labels that is in `labels`, by name, and on top stand means over
            labels of each metric.

        Raises:
            UserError: there are no rows.
        """
        if not len(self.rows):
            raise UserError(f"the {self.split} part has no rows with a label", where=self.shards.where())
        every = {label.name: self._judge(number) for number, label in enumerate(self.rows.labels)}
        common: dict[str, Any] = {
            "split": self.split,
            "users": len(np.unique(self.rows.sequence)),
            "rows": len(self.rows),
            "label": list(every) if len(every) > 1 else next(iter(every)),
        }
        common |= split_facts(self.shards) | self.about
        if len(every) == 1:
            return common | {
                name: value for name, value in next(iter(every.values())).items() if name != "rows"
            }
        return common | means(list(every.values())) | {"labels": every}

    def _judge(self, number: int) -> dict[str, Any]:
        chosen = ~np.isnan(self.rows.label[:, number])
        rows = self.rows.take(chosen)
        label, predicted = rows.labels[number], self.predicted[chosen, number]
        return judge_label(rows, rows.label[:, number], label, predicted, self.shards, self.config.bootstrap)


def as_predictions(evaluation: object, flag: str = "--predictions") -> ActionEvaluation:
    """An evaluation as what it is.

    Args:
        evaluation: of any task.
        flag: what asks for predictions of actions.

    Raises:
        UserError: it is of another task, which predicts no actions.
    """
    if not isinstance(evaluation, ActionEvaluation):
        raise UserError(
            "this run ranks all items, and predicts no actions",
            where=flag,
            fix="train with --task ranking, or leave it out; --per-user has the rank of every target",
        )
    return evaluation


def judge_label(
    rows: LabelledRows,
    truth: npt.NDArray,
    label: Label,
    predicted: npt.NDArray,
    shards: ShardFolder,
    resamples: int,
) -> dict[str, Any]:
    """Metrics of one label.

    Args:
        rows: with that label.
        truth: [rows] its values.
        label: which it is.
        predicted: [rows] logits or numbers.
        shards: the data set, for the popularity of items.
        resamples: of the bootstrap by user; 0: no intervals.

    Returns:
        As `Meter.metrics`; of a binary label `intervals`, by metric, `calibration_table`
        (`Calibration.table`); and `breakdown`: `activity`, by events of the user's training part, and
        `popularity`, by the item's (`models.evaluation.slices`), each a slice -> metrics. Slices without
        rows are left out.
    """
    meter = _metered(rows.sequence, predicted, truth, label)
    result = meter.metrics()
    if label.is_binary:
        result["calibration_table"] = meter.calibration().table()
        if resamples:
            result["intervals"] = action_intervals(rows.sequence, predicted, truth, resamples)
    result["breakdown"] = {
        attribute: {
            names[bucket]: _metered(rows.sequence[own], predicted[own], truth[own], label).metrics()
            for bucket in np.unique(buckets).tolist()
            for own in [buckets == bucket]
        }
        for attribute, (buckets, names) in _buckets(rows, shards).items()
    }
    return result


def several(evaluations: Sequence[ActionEvaluation]) -> dict[str, Any]:
    """The report of evaluations of one label each: means over labels on top, and each in `labels`."""
    reports = [one.report() for one in evaluations]
    if len(reports) == 1:
        return reports[0]
    own = {name for name in ("split", "label", "counts", "model") if name in reports[0]}
    named = {one["label"]: {name: value for name, value in one.items() if name not in own} for one in reports}
    common = {name: reports[0][name] for name in own - {"label"}}
    return common | {"label": list(named)} | means(reports) | {"labels": named}


def means(every: list[dict[str, Any]]) -> dict[str, float]:
    """Means over labels of each metric, over those that have it."""
    found: dict[str, float] = {}
    for name in METRICS:
        values = [one[name] for one in every if name in one]
        if values:
            found[name] = float(np.mean(values))
    return found


def _metered(user: npt.NDArray, predicted: npt.NDArray, truth: npt.NDArray, label: Label) -> Meter:
    meter = Meter(label)
    order = np.argsort(user, kind="stable")
    meter.add(user[order], predicted[order], truth[order])
    return meter


def _buckets(rows: LabelledRows, shards: ShardFolder) -> dict[str, tuple[npt.NDArray, list[str]]]:
    """attribute -> [rows] bucket, and the names of buckets."""
    bounds = [1, *HISTORY_BOUNDS]
    ranges = [f"{first}-{stop - 1}" for first, stop in pairwise(bounds)]
    popularity = popularity_buckets(shards.items()["train_count"].to_numpy().astype(np.int64))
    place = rows.item.astype(np.int64) - shards.first_item
    unknown = POPULARITY.index("unknown")
    return {
        "activity": (np.digitize(rows.train_count, bounds), ["0", *ranges, f"{bounds[-1]}+"]),
        "popularity": (
            np.where(place >= 0, popularity[np.maximum(place, 0)], unknown),
            list(POPULARITY),
        ),
    }
