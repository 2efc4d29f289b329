"""`lrm evaluate SHARDS --task ranking --baselines`: rankers without a backbone on a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from behavior.config import Config, apply_overrides, parse_config, unused_settings
from behavior.errors import UserError
from behavior.files import check_local
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike
from models.evaluation.actions.config import NegativesConfig
from models.evaluation.actions.figures import draw_figures
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.predictions import check_predictions_path, write_predictions
from models.evaluation.actions.report import ActionEvaluation, several
from models.evaluation.actions.sampled import Negatives
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.names import Counts
from models.evaluation.targets import Split
from models.rankers.config import RankersConfig
from models.rankers.judge import Rankers, judge_rankers
from models.rankers.names import check_rankers


class RankedTask(Config):
    """What rankers predict."""

    kind: Literal["ranking"] = "ranking"
    label: str | list[str] | None = Field(
        None, description="what is predicted of an event; see docs/ranking.md"
    )
    negatives: NegativesConfig = NegativesConfig()


class RankersSettings(Config):
    """All settings of an evaluation of rankers on a data set."""

    task: RankedTask = RankedTask()
    evaluation: EvaluationConfig = EvaluationConfig()
    rankers: RankersConfig = RankersConfig()


def evaluate_rankers(
    data: FolderLike | ShardFolder,
    split: Split = "test",
    names: Sequence[str] | None = None,
    *,
    settings: Sequence[str] = (),
    counts: Counts = "train",
    predictions: str | PathLike[str] | None = None,
    figures: str | PathLike[str] | None = None,
    told: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Fit rankers without a backbone and judge them on one split of a data set.

    Args:
        data: a shard folder.
        split: valid or test.
        names: of `models.rankers.names.RANKERS`; None: all that can be had.
        settings: `section.key=value` of `RankersSettings`; `task.label` must be among them.
        counts: as of `models.rankers.judge.Rankers`.
        predictions: a file for the prediction of every row: .parquet, .csv or .tsv.
        figures: a folder for pictures of the ROC and calibration curves; it is made where there is none.
        told: is called with the name of each ranker before it is fitted.

    Returns:
        `data`, `split`, `label`, `users`, `rows`, `counts`, how the data set is split; `baselines`, name ->
        report (`models.evaluation.actions.report.ActionEvaluation.report`), and `baselines_left_out`, name ->
        why.

    Raises:
        UserError: a setting, a name or the label is wrong, there is nothing to train on or to judge, or a
        file
            cannot be written.
    """
    parsed = _parsed(settings)
    if parsed.task.label is None:
        raise UserError(
            "nobody says what is to be predicted",
            where="task.label",
            fix="add --set task.label=value>=4, say",
        )
    check_rankers(names or [])
    if predictions is not None:
        check_predictions_path(Path(predictions))
    shards = data if isinstance(data, ShardFolder) else open_shards(data)
    if isinstance(parsed.task.label, list) and len(parsed.task.label) != 1:
        raise UserError(
            "rankers without a backbone predict one label at a time",
            where=f"task.label = {parsed.task.label}",
            fix="evaluate each label by itself, or beside a run that predicts all of them",
        )
    [label] = parse_labels(parsed.task.label, shards.manifest.behaviors)
    rankers = Rankers(
        shards,
        label,
        split,
        counts=counts,
        config=parsed.rankers,
        evaluation=parsed.evaluation,
        negatives=Negatives.of(parsed.task.negatives, shards, [label]),
    )
    found, left_out = judge_rankers(rankers, names, told)
    reports = {name: evaluation.report() for name, evaluation in found.items()}
    if predictions is not None:
        write_predictions(found, Path(predictions))
    if figures is not None:
        draw_figures(found, made_folder(Path(figures)))
    common = (
        "split",
        "users",
        "rows",
        "positives",
        "label",
        "counts",
        "unknown_rows",
        "known_only",
        "negatives",
    )
    one = next(iter(reports.values()))
    about = {
        name: one[name] for name in one if name in common or name.startswith(("split", "valid_at", "test_at"))
    }
    return {"data": str(shards.folder), **about, "baselines": reports, "baselines_left_out": left_out}


def _parsed(settings: Sequence[str]) -> RankersSettings:
    """Settings given as `section.key=value`; raises UserError where one is wrong, or changes nothing."""

    def where(key: str) -> str:
        return " ".join(f"--set {setting}" for setting in settings if _is_of(setting, key)) or "--set"

    parsed = parse_config(RankersSettings, apply_overrides({}, settings), where=where)
    for key, why in unused_settings(parsed):
        raise UserError(f"'{key.rpartition('.')[0]}': {why}", where=where(key))
    return parsed


def _is_of(setting: str, key: str) -> bool:
    name = setting.partition("=")[0].strip()
    return f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.")


def rankers_beside(
    evaluation: ActionEvaluation,
    names: Sequence[str] | None,
    counts: Counts,
    told: Callable[[str], None] = lambda name: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Rankers on the rows of a model's evaluation, which have seen what the model was trained on.

    Args:
        evaluation: the model's.
        names: of `models.rankers.names.RANKERS`; None: all that can be had.
        counts: `train` or `train+valid`.
        told: is called with each name, and with several labels each label, before it is fitted.

    Returns:
        name -> report, with several labels as `ActionEvaluation.report` has them; name -> why it was left
        out.

    Raises:
        UserError: there is no ranker of a name, or it cannot be had.
    """
    found: dict[str, list[ActionEvaluation]] = {}
    left_out: dict[str, str] = {}
    for label in evaluation.rows.labels:
        rankers = Rankers(
            evaluation.shards,
            label,
            evaluation.split,
            counts=counts,
            evaluation=evaluation.config,
            negatives=evaluation.negatives,
        )
        of = f", {label.name}" if len(evaluation.rows.labels) > 1 else ""
        judged, left_out = judge_rankers(rankers, names, lambda name, of=of: told(name + of))  # type: ignore[misc]
        for name, one in judged.items():
            found.setdefault(name, []).append(one)
    return {name: several(every) for name, every in found.items()}, left_out


def rankers_on(evaluation: ActionEvaluation, name: str, split: Split) -> list[ActionEvaluation]:
    """A ranker for each label of a model's evaluation, on the rows of a split; trained on training parts."""
    found = []
    for label in evaluation.rows.labels:
        rankers = Rankers(
            evaluation.shards,
            label,
            split,
            evaluation=evaluation.config,
            negatives=evaluation.negatives,
        )
        found.append(rankers.judge(name))
    return found


def made_folder(folder: Path) -> Path:
    """A folder for pictures; it is made where there is none.

    Raises:
        UserError: it cannot be.
    """
    check_local(folder, "--figures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder '{folder}' cannot be made: {error.strerror}", where="--figures"
        ) from None
    return folder
