"""Judging a trained model: every known item ranked for every user of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards import ShardFolder, open_shards
from behavior.storage import FolderLike
from models.build import build_model, dataset_of, time_setting
from models.catalog import ItemCatalog
from models.checkpoint import load_checkpoint, load_weights
from models.config import ModelConfig, RunConfig
from models.data import SequenceData
from models.device import DeviceName, pick_device
from models.loading import ShardSource
from models.ranking import EvaluationConfig, Scorer, Split, Targets, evaluate_scorer
from models.run_folder import open_run
from models.tasks.retrieval import RetrievalModel
from models.windows import gather, history_windows

Which = Literal["best", "last"]


def evaluate_run(
    run: Path,
    split: Split = "test",
    *,
    data: FolderLike | None = None,
    checkpoint: Which = "best",
    exclude_seen: bool | None = None,
    device: DeviceName = "auto",
) -> dict[str, Any]:
    """Judge a trained run by the settings it was trained with, in single precision.

    Args:
        run: the run's folder.
        split: valid or test.
        data: the shard folder, where it has moved since the training; urls too.
        checkpoint: the best validation, or the last state.
        exclude_seen: overrides `evaluation.exclude_seen`.
        device: where to compute.

    Returns:
        As `models.ranking.evaluate_scorer`, and `time` (known, unknown, none), `checkpoint`, `epoch`, `step`,
        `model` (the backbone's kind).

    Raises:
        UserError: the folder is not a run, it has no checkpoint yet, or the data is not what the model was
            trained on.
    """
    folder = open_run(run)
    path = folder.best if checkpoint == "best" else folder.last
    saved = load_checkpoint(path)
    config = parse_config(RunConfig, saved.config, where=str(path))
    shards = open_shards(data or folder.data)
    _check_data(saved.dataset, shards)
    sequences = ShardSource(shards, cache_bytes=config.loader.cache_mib << 20)
    model = build_model(
        config,
        ItemCatalog.from_shards(shards),
        num_behaviors=sequences.about.num_behaviors,
        has_time=sequences.about.has_time,
    )
    load_weights(model, saved.model, path)
    model.to(pick_device(device))
    evaluation = config.evaluation
    if exclude_seen is not None:
        evaluation = EvaluationConfig(**{**evaluation.model_dump(), "exclude_seen": exclude_seen})
    scorer = model_scorer(model, config.model)
    return {
        **evaluate_scorer(sequences, scorer, split=split, config=evaluation),
        "time": time_setting(config, sequences.about),
        "checkpoint": checkpoint,
        "epoch": saved.progress["epoch"],
        "step": saved.progress["step"],
        "model": config.model.kind,
    }


def model_scorer(model: RetrievalModel, config: ModelConfig) -> Scorer:
    """Score every known item by the query after the newest `max_length` events of the history.

    The scorer takes gradients and dropout out of the model while it scores, and puts its mode back.
    """

    def score(data: SequenceData, targets: Targets) -> torch.Tensor:
        windows = history_windows(data, targets.sequence, targets.stop, targets.event, config.max_length)
        batch = gather(data, windows, time=config.time).to(model.device)
        training = model.training
        model.eval()
        with torch.no_grad():
            scores = model.scores(batch)
        model.train(training)
        return scores

    return score


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
