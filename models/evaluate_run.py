"""Evaluating a trained model on a split of a data set, whatever it was trained for."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from behavior.config import parse_config
from behavior.shards.storage import FolderLike
from models.build import sequences_of
from models.evaluation.baselines import BASELINES, evaluate_baseline
from models.evaluation.config import EvaluationConfig
from models.evaluation.protocol import check_same_part, check_unseen
from models.evaluation.rankings_table import check_rankings_path, write_rankings
from models.evaluation.report import RankingEvaluation, as_rankings, compare
from models.evaluation.targets import Split
from models.gpu.config import DeviceName
from models.serving.load import TrainedModel, Which, load_model, memory_errors_told
from models.tasks.checks import check_evaluator
from models.tasks.task import Evaluation


def evaluate(
    run: str | PathLike[str] | TrainedModel,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
    baselines: bool | Sequence[str] = False,
    against: str | PathLike[str] | None = None,
    per_user: str | PathLike[str] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a trained run; retrieval ranks every known item for every user of a split.

    Args:
        run: the run's folder, or its model as `load_model` gives it: then `data`, `checkpoint` and `device`
            are those of the model.
        split: `valid` or `test`.
        data: the shard folder, where it has moved since the training; urls too.
        checkpoint: the one of the `best` validation, or the `last`.
        device: where to compute; `auto` is a GPU where there is one.
        baselines: evaluate baselines under the same protocol: True for all, or names out of
            `models.evaluation.baselines.BASELINES`.
        against: another run on the same data, to be compared user by user.
        per_user: a file to which the rank of every target is written: .parquet, .csv or .tsv.
        settings: of the section `evaluation`, in place of the run's: `cutoffs`, `exclude_seen`, `by`,
            `bootstrap`, `batch_size`, `new_items`, `candidates`; None leaves one as it is.

    Returns:
        The report, as docs/evaluation.md describes it: metrics by name (`ndcg@10`), `intervals`, `breakdown`,
        the protocol; with `against` a `comparison`, with baselines `baselines`, by name.

    Raises:
        UserError: the folder is not a run, it has no checkpoint yet, the data is not what the model was
            trained on or cannot be broken down as asked, or the model does not fit on the device.
    """
    if per_user is not None:
        check_rankings_path(Path(per_user))
    ours = judge_run(run, split, data=data, checkpoint=checkpoint, device=device, **settings)
    result = ours.report()
    if against is not None:
        theirs = judge_like(ours, Path(against), checkpoint)
        check_same_part(result, theirs.report(), str(against))
        result["comparison"] = {"against": str(against), **compare(as_rankings(ours), as_rankings(theirs))}
    names = (BASELINES if baselines else ()) if isinstance(baselines, bool) else baselines
    if names:
        ranked = ours.rankings.candidates if isinstance(ours, RankingEvaluation) else None
        found = [evaluate_baseline(name, ours.shards, split, ours.config, ranked) for name in names]
        result["baselines"] = {other["model"]: other for other in found}
    if per_user is not None:
        write_rankings(as_rankings(ours), Path(per_user))
    return result


def judge_run(
    run: str | PathLike[str] | TrainedModel,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
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
    about = {
        "trained_on": config.loader.part,
        "checkpoint": model.checkpoint,
        "epoch": model.progress["epoch"],
        "step": model.progress["step"],
        "model": config.model.kind,
    }
    judged = config.model_copy(update={"evaluation": evaluation})
    evaluator = model.task.evaluator(sequences_of(model.shards, judged, model.task.columns), evaluation)
    check_evaluator(evaluator)
    with memory_errors_told(model.task):
        return evaluator.judge(split, model.shards, about)


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
        new_items=config.new_items,
        candidates=config.candidates,
        by=[],
    )
