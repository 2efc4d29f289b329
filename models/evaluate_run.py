"""Evaluating a trained model on a split of a data set, whatever it was trained for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.manifest import MANIFEST_NAME
from behavior.shards.storage import FolderLike, as_folder
from models.build import sequences_of
from models.config import RunConfig
from models.evaluation.actions.figures import draw_figures
from models.evaluation.actions.predictions import check_predictions_path, write_predictions
from models.evaluation.actions.report import ActionEvaluation, as_predictions
from models.evaluation.actions.stacking import stacked
from models.evaluation.baselines import evaluate_baselines, evaluate_data_set
from models.evaluation.below import below_floors
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.names import Counts
from models.evaluation.protocol import check_same_part, check_unseen
from models.evaluation.rankings_table import check_rankings_path, write_rankings
from models.evaluation.report import RankingEvaluation, as_rankings, compare
from models.evaluation.targets import Split
from models.gpu.config import DeviceName
from models.rankers.evaluate import made_folder, rankers_beside, rankers_on
from models.rankers.names import RANKERS
from models.serving.load import TrainedModel, Which, load_model, memory_errors_told
from models.tasks.checks import check_evaluator
from models.tasks.task import Evaluation, Evaluator


def evaluate(
    run: str | PathLike[str] | TrainedModel,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
    baselines: bool | Sequence[str] = False,
    counts: Counts | None = None,
    against: str | PathLike[str] | None = None,
    average: Sequence[str | PathLike[str]] = (),
    per_user: str | PathLike[str] | None = None,
    predictions: str | PathLike[str] | None = None,
    stack: Sequence[str | PathLike[str]] = (),
    figures: str | PathLike[str] | None = None,
    told: Callable[[str], None] = lambda name: None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a trained run; retrieval ranks every known item for every user of a split.

    Args:
        run: the run's folder, or its model as `load_model` gives it: then `data`, `checkpoint` and `device`
            are those of the model. With `baselines`, a shard folder will do: they need no model.
        split: `valid` or `test`.
        data: the shard folder, where it has moved since the training; urls too.
        checkpoint: the one of the `best` validation, or the `last`.
        device: where to compute; `auto` is a GPU where there is one.
        baselines: evaluate baselines under the same protocol: True for all that make sense, or names out of
            `models.evaluation.baselines.BASELINES`; of a ranking run, of `models.rankers.names.RANKERS`.
        counts: of a shard folder: the events that its baselines have counted, `train` (by default) or
            `train+valid`. Beside a run they have counted what it was trained on.
        against: another run on the same data, to be compared user by user.
        average: other runs on the same data: the mean of all their probabilities is evaluated, an ensemble.
        per_user: a file to which the rank of every target is written: .parquet, .csv or .tsv.
        predictions: of a ranking run, a file to which the prediction of every row is written, likewise.
        stack: of a ranking run, others that are judged with it as one model, by weights that the validation
            rows choose: names of `models.rankers.names.RANKERS`, or run folders; `stacked` in the report has
            the weights.
        figures: of a ranking run, a folder for pictures of the ROC and calibration curves.
        told: is called with what is evaluated next: the model, or the name of a baseline.
        settings: of the section `evaluation`, in place of the run's: `cutoffs`, `exclude_seen`, `by`,
            `target_behavior`, `bootstrap`, `batch_size`, `new_items`, `candidates`; None leaves one as it is.

    Returns:
        The report, as docs/evaluation.md describes it: metrics by name (`ndcg@10`), `intervals`, `breakdown`,
        the protocol; with `against` a `comparison`, with baselines `baselines`, by name, `baselines_left_out`
        (name -> why) and `below_floors`, as `models.evaluation.below.below_floors`. Of a shard folder, as
        `models.evaluation.baselines.evaluate_data_set`.

    Raises:
        UserError: the folder is not a run, it has no checkpoint yet, the data is not what the model was
            trained on or cannot be broken down as asked, or the model does not fit on the device.
    """
    wanted = (None if baselines else []) if isinstance(baselines, bool) else baselines
    if not isinstance(run, TrainedModel) and is_data_set(run):
        _check_no_model(
            run,
            baselines,
            data=data,
            against=against,
            per_user=per_user,
            predictions=predictions,
            average=average or None,
            stack=stack or None,
            figures=figures,
        )
        return evaluate_data_set(str(run), split, wanted, counts or "train", told=told, **settings)
    if per_user is not None:
        check_rankings_path(Path(per_user))
    if predictions is not None:
        check_predictions_path(Path(predictions))
    told("the model")
    ours = judge_run(run, split, data=data, checkpoint=checkpoint, device=device, average=average, **settings)
    if stack:
        same = _Like(run, data, checkpoint, device, settings)
        ours = _stacked(as_predictions(ours, "--stack"), same, [str(each) for each in stack])
    result = ours.report()
    if against is not None:
        as_rankings(ours)
        told(str(against))
        theirs = judge_like(ours, Path(against), checkpoint)
        check_same_part(result, theirs.report(), str(against))
        result["comparison"] = {"against": str(against), **compare(as_rankings(ours), as_rankings(theirs))}
    had = result.get("trained_on", "train")
    if counts not in (None, had):
        raise UserError(
            f"the model was trained on {had}: a baseline that has counted {counts} is no floor of it",
            where=f"counts={counts}",
            fix="leave it out, or evaluate the baselines on the shard folder alone",
        )
    if baselines and isinstance(ours, ActionEvaluation):
        found, left_out = rankers_beside(ours, wanted, had, told)
        result |= {"baselines": found, "baselines_left_out": left_out}
    elif baselines:
        like = ours.rankings if isinstance(ours, RankingEvaluation) else None
        ranked = None if like is None else like.candidates
        found, left_out = evaluate_baselines(wanted, ours.shards, split, ours.config, ranked, had, like, told)
        result |= {"baselines": found, "baselines_left_out": left_out}
        result["below_floors"] = below_floors(result, found)
    if per_user is not None:
        write_rankings(as_rankings(ours), Path(per_user))
    if predictions is not None:
        write_predictions({result["model"]: as_predictions(ours)}, Path(predictions))
    if figures is not None:
        draw_figures({result["model"]: as_predictions(ours, "--figures")}, made_folder(Path(figures)))
    return result


@dataclass(frozen=True)
class _Like:
    """How a run is judged once more."""

    run: str | PathLike[str] | TrainedModel
    data: FolderLike | None
    checkpoint: Which
    device: DeviceName
    settings: dict[str, Any]

    def judge(self, split: Split, run: str | None = None) -> ActionEvaluation:
        """On a split; or another run in its place."""
        found = judge_run(
            self.run if run is None else run,
            split,
            data=self.data,
            checkpoint=self.checkpoint,
            device=self.device,
            **self.settings,
        )
        return as_predictions(found, "--stack")


def _stacked(ours: ActionEvaluation, like: _Like, others: list[str]) -> ActionEvaluation:
    """A run and others as one model.

    Raises:
        UserError: the split, or what the run was trained on, leaves no rows to choose weights by.
    """
    where = f"--stack {' '.join(others)}"
    if ours.split != "test":
        raise UserError(
            "the validation rows choose the weights: judged on them they say nothing",
            where=where,
            fix="evaluate the test part",
        )
    if ours.about.get("trained_on", "train") != "train":
        raise UserError(
            "the model was trained on the validation rows: they cannot choose weights",
            where=where,
            fix="name a run that was not refitted",
        )
    valid, judged = [[like.judge("valid")]], [[ours]]
    for name in others:
        if name in RANKERS:
            valid.append(rankers_on(ours, name, "valid"))
            judged.append(rankers_on(ours, name, "test"))
        else:
            valid.append([like.judge("valid", name)])
            judged.append([like.judge("test", name)])
    return stacked(ours, [str(ours.about.get("model", "model")), *others], valid, judged)


def is_data_set(path: str | PathLike[str]) -> bool:
    """Whether a folder, local or remote, is a finished data set and no run."""
    folder = as_folder(str(path))
    return folder.exists(MANIFEST_NAME) and not folder.exists("run.json")


def _check_no_model(run: str | PathLike[str], baselines: object, **of_runs: object) -> None:
    """Check that nothing is asked of a data set that only a model can answer.

    Raises:
        UserError: something is.
    """
    given = [name for name, value in of_runs.items() if value is not None]
    if baselines and not given:
        return
    what = f"it has no model: '{given[0]}' makes no sense" if baselines else "it has no model to evaluate"
    raise UserError(
        f"'{run}' is a data set, not a run: {what}",
        where=str(run),
        fix="name a run folder made by 'lrm train', or evaluate what counting reaches: --baselines",
    )


def judge_run(
    run: str | PathLike[str] | TrainedModel,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
    average: Sequence[str | PathLike[str]] = (),
    **settings: Any,
) -> Evaluation:
    """Evaluate a trained run by its task and the settings it was trained with, in float32.

    Args:
        run: the run's folder; or its model, loaded already: then `data`, `checkpoint` and `device` are those
            of the model.
        split: valid or test.
        data: the shard folder, where it has moved since the training; urls too.
        checkpoint: the best validation, or the last state.
        device: where to compute.
        average: other runs, as of `evaluate`.
        settings: of `models.evaluation.config.EvaluationConfig`, in place of the run's; None leaves one as
            it is.

    Returns:
        The evaluation (of a retrieval run a `models.evaluation.report.RankingEvaluation`). Its report also
        has `checkpoint`, `epoch`, `step` and `model` (the backbone's kind).

    Raises:
        UserError: the folder is not a run, it has no checkpoint yet, the data is not what the model was
            trained on or cannot be broken down as asked, or the model does not fit on the device.
    """
    if isinstance(run, TrainedModel):
        model = run
    else:
        model = load_model(run, checkpoint=checkpoint, data=data, device=device)
    config = model.config
    changes = {name: value for name, value in settings.items() if value is not None}
    evaluation = parse_config(EvaluationConfig, config.evaluation.model_dump() | changes, where="evaluation")
    check_unseen(model.config.loader.part, split, model.run)
    _check_ranks_items(config, changes)
    about = {
        "trained_on": config.loader.part,
        "checkpoint": model.checkpoint,
        "epoch": model.progress["epoch"],
        "step": model.progress["step"],
        "model": config.model.kind,
    }
    judged = config.model_copy(update={"evaluation": evaluation})
    evaluator = model.task.evaluator(sequences_of(model.shards, judged, model.task.columns), evaluation)
    if average:
        evaluator = _averaged(evaluator, model, average, checkpoint, device)
        about["average_of"] = [str(model.run), *map(str, average)]
    check_evaluator(evaluator)
    with memory_errors_told(model.task):
        return evaluator.judge(split, model.shards, about)


_OF_RANKS = ("cutoffs", "exclude_seen", "target_behavior", "by", "new_items", "candidates")


def _check_ranks_items(config: RunConfig, changes: dict[str, Any]) -> None:
    """Raise UserError where a run that predicts actions alone is asked how it is to rank items."""
    if config.task.kind != "ranking" or config.task.retrieval_weight:
        return
    for name in _OF_RANKS:
        if name in changes and changes[name] != []:
            raise UserError(
                f"this run predicts actions and ranks no items: '{name}' would change nothing",
                where=f"evaluation.{name} = {changes[name]}",
                fix="leave it out",
            )


def _averaged(
    evaluator: Evaluator,
    model: TrainedModel,
    runs: Sequence[str | PathLike[str]],
    checkpoint: Which,
    device: DeviceName,
) -> Evaluator:
    """The evaluator of the mean of a model's probabilities and those of other runs.

    Raises:
        UserError: see `Evaluator.averaged`; or one was trained on other events.
    """
    others = []
    for run in runs:
        other = load_model(run, checkpoint=checkpoint, data=model.shards.folder, device=device)
        own, theirs = ({"trained_on": one.config.loader.part} for one in (model, other))
        check_same_part(own, theirs, str(run), option="--average")
        source = sequences_of(model.shards, other.config, other.task.columns)
        others.append(other.task.evaluator(source, evaluator.config))
    return evaluator.averaged(others)


def judge_like(evaluation: Evaluation, run: Path, checkpoint: Which = "best") -> Evaluation:
    """Evaluate a run on the data, the split and the protocol of another's evaluation; no slices."""
    config = evaluation.config
    return judge_run(
        run,
        evaluation.split,
        data=evaluation.shards.folder,
        checkpoint=checkpoint,
        cutoffs=config.cutoffs,
        exclude_seen=config.exclude_seen,
        target_behavior=config.target_behavior,
        new_items=config.new_items,
        candidates=config.candidates,
        by=[],
    )
