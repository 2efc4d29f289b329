"""Judging a trained model: every known item ranked for every user of a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike
from models.build import build_model, dataset_of, time_setting
from models.config import ModelConfig, RunConfig
from models.data.catalog import ItemCatalog
from models.data.loading import ShardSource
from models.data.sequences import SequenceData
from models.data.windows import gather, history_windows
from models.evaluation.breakdown import check_attributes
from models.evaluation.config import EvaluationConfig
from models.evaluation.divided_scores import DividedScores
from models.evaluation.ranking import Scorer, rank_split
from models.evaluation.report import Evaluation
from models.evaluation.scores import ProductScores, Scores
from models.evaluation.targets import Split, Targets
from models.gpu.config import DeviceName
from models.gpu.device import pick_device
from models.runs.checkpoint import load_checkpoint, load_weights
from models.runs.run_folder import open_run
from models.tasks.retrieval import RetrievalModel

Which = Literal["best", "last"]


def evaluate_run(
    run: Path,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
    **settings: Any,
) -> dict[str, Any]:
    """Judge a trained run; `judge_run` and `models.evaluation.report.Evaluation.report` in one."""
    return judge_run(run, split, data=data, checkpoint=checkpoint, device=device, **settings).report()


def judge_run(
    run: Path,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    device: DeviceName = "auto",
    **settings: Any,
) -> Evaluation:
    """Judge a trained run by the settings it was trained with, in single precision.

    Args:
        run: the run's folder.
        split: valid or test.
        data: the shard folder, where it has moved since the training; urls too.
        checkpoint: the best validation, or the last state.
        device: where to compute.
        settings: of `models.evaluation.ranking.EvaluationConfig`, in place of the run's; None leaves one as
            it is.

    Returns:
        The evaluation; its report also has `time` (known, unknown, none), `checkpoint`, `epoch`, `step`,
        `model` (the backbone's kind).

    Raises:
        UserError: the folder is not a run, it has no checkpoint yet, the data is not what the model was
            trained on or cannot be broken down as asked, or the model does not fit on the device.
    """
    folder = open_run(run)
    path = folder.best if checkpoint == "best" else folder.last
    saved = load_checkpoint(path)
    config = parse_config(RunConfig, saved.config, where=str(path))
    shards = open_shards(data or folder.data)
    _check_data(saved.dataset, shards)
    changes = {name: value for name, value in settings.items() if value is not None}
    evaluation = parse_config(EvaluationConfig, config.evaluation.model_dump() | changes, where="evaluation")
    check_attributes(evaluation.by, shards)
    sequences = ShardSource(shards, cache_bytes=config.loader.cache_mib << 20)
    model = build_model(
        config,
        ItemCatalog.from_shards(shards),
        num_behaviors=sequences.about.num_behaviors,
        has_time=sequences.about.has_time,
    )
    load_weights(model, saved.model, path)
    about = {
        "time": time_setting(config, sequences.about),
        "checkpoint": checkpoint,
        "epoch": saved.progress["epoch"],
        "step": saved.progress["step"],
        "model": config.model.kind,
    }
    with _memory_errors_told(model):
        scorer = model_scorer(model.to(pick_device(device)), config.model)
        rankings = rank_split(sequences, scorer, split=split, config=evaluation)
    return Evaluation.of(rankings, evaluation, shards, about)


@contextmanager
def _memory_errors_told(model: RetrievalModel) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{model.num_parameters:,} parameters, item vectors and scores do not fit on the GPU",
            fix="use a GPU with more free memory, or the CPU: CUDA_VISIBLE_DEVICES= before the command",
        ) from error


def judge_like(evaluation: Evaluation, run: Path, checkpoint: Which = "best") -> Evaluation:
    """Judge a run on the data, the split and the protocol of another's evaluation; no slices."""
    config = evaluation.config
    return judge_run(
        run,
        evaluation.rankings.split,
        data=evaluation.shards.folder,
        checkpoint=checkpoint,
        cutoffs=config.cutoffs,
        exclude_seen=config.exclude_seen,
        by=[],
    )


def model_scorer(model: RetrievalModel, config: ModelConfig) -> Scorer:
    """Score every known item by the query after the newest `max_length` events of the history.

    Item vectors are made here, once: a model that was trained on needs a new scorer. The scorer takes
    gradients and dropout out of the model while it scores, and puts its mode back.
    """
    with _scoring(model):
        items = model.item_vectors()
    held = model.held_items
    if held is not None:
        items = held.filled(items)
    pin = model.device.type == "cuda"

    def score(data: SequenceData, targets: Targets) -> Scores | DividedScores:
        if held is None and not len(targets):
            return ProductScores(items[:0], items)
        # Without targets, too, where items are divided: all processes look them up together.
        windows = history_windows(data, targets.sequence, targets.stop, targets.event, config.max_length)
        batch = gather(data, windows, time=config.time, pin=pin).to(model.device, non_blocking=pin)
        with _scoring(model):
            query = model(batch)[batch.offsets[1:] - 1]
            return ProductScores(query, items) if held is None else DividedScores(query, items, held)

    return score


@contextmanager
def _scoring(model: RetrievalModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _check_data(dataset: dict[str, Any], shards: ShardFolder) -> None:
    found = dataset_of(shards)
    if found == dataset:
        return
    differing = [
        f"{key} {dataset.get(key)!r}, here {value!r}"
        for key, value in found.items()
        if dataset.get(key) != value
    ]
    raise UserError(
        f"the model was trained on another data set: {'; '.join(differing)}",
        where=shards.where(),
        fix="name the data set it was trained on",
    )
