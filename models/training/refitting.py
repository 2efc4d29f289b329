"""Refitting: a run that validation chose, trained anew on more events than it was chosen with."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from behavior.config import apply_overrides, parse_config
from behavior.errors import UsageError, UserError
from behavior.shards.folder import open_shards
from behavior.shards.storage import FolderLike
from models.config import RunConfig
from models.data.loading.part import IN_WORDS, Part
from models.data.versions import differences
from models.runs.checkpoint import load_checkpoint, position_in
from models.runs.run_folder import Resume, RunFolder, open_run
from models.training.observer import TrainObserver, TrainResult
from models.training.run import train
from models.training.state import FREE_SETTINGS

# Whatever says how far the training goes is the chosen run's.
_DECIDED = {"train.epochs", "train.stop_after_epochs", "train.max_minutes", "train.patience"}
_OPEN = (FREE_SETTINGS - _DECIDED) | {"train.seed"}


def refit(
    run: str | PathLike[str],
    out: str | PathLike[str],
    *,
    part: Part = "train+valid",
    data: FolderLike | None = None,
    settings: Iterable[str] = (),
    resume: Resume = False,
    observer: TrainObserver | None = None,
) -> TrainResult:
    """Train the settings of a run anew, on more events, for as many epochs as its validation chose.

    A validation event is one event more of every user than a model knows that was chosen by it; what is
    served should have learned from it. Weights are fresh, the learning rate follows the run's schedule, and
    ends where the best checkpoint was. Nothing is validated on the way: the last checkpoint is also the best.

    Args:
        run: the folder of the chosen run.
        out: the folder of the new one.
        part: `train+valid`: the test split stays unseen, and may be evaluated once; `all`: for serving, with
            nothing left to evaluate on.
        data: the shard folder, where it has moved since; a later version of it will do.
        settings: `section.key=value`, of those that change nothing of what is learned, and `train.seed`.
        resume: go on with a refit in `out`; see `models.training.train`.
        observer: told about the progress.

    Returns:
        What came of it; without metrics.

    Raises:
        UserError: the run cannot be read, was refitted itself, or has not finished an epoch; the data set is
            another; see also `models.training.train`.
        UsageError: a setting is not open to change.
    """
    folder = open_run(Path(run))
    config, dataset = _chosen(folder, part, list(settings))
    shards = open_shards(folder.data if data is None else data)
    changed = differences(dataset, shards)
    if changed:
        raise UserError(
            f"the run was chosen on another data set: {'; '.join(changed)}",
            where=shards.where(),
            fix="name the data set it was trained on, or a later version of it: --data DIR",
        )
    return train(config, shards.folder, out, resume, observer, refit=folder.path)


def _chosen(folder: RunFolder, part: Part, settings: list[str]) -> tuple[RunConfig, dict[str, object]]:
    """The settings of the refit, and the data set that the run remembers."""
    saved = load_checkpoint(folder.best)
    epochs = position_in(saved, folder.best).epoch
    config = parse_config(RunConfig, saved.config, where=str(folder.best))
    if part == "train":
        raise UserError(
            "a refit trains on more than the training part", where=f"part = {part}", fix="train+valid, or all"
        )
    if config.loader.part != "train":
        raise UserError(
            f"this run is a refit itself: it was trained on {IN_WORDS[config.loader.part]}, and validation "
            "chose nothing of it",
            where=str(folder.path),
            fix=f"name the run that it refits: {folder.refit() or 'one whose loader.part is train'}",
        )
    if not epochs:
        raise UserError(
            "the best checkpoint of this run stands within its first epoch: there is no number of epochs to "
            "train for",
            where=str(folder.best),
            fix="train it for longer",
        )
    for setting in settings:
        name = setting.partition("=")[0].strip()
        if name not in _OPEN:
            raise UsageError(
                f"a refit keeps the settings that validation chose, '{name}' among them",
                where=f"--set {setting}",
                fix="train and validate a run with it, and refit that one",
            )
    changes = ["loader.part=" + part, f"train.stop_after_epochs={epochs}", *settings]
    changed = apply_overrides(config.model_dump(mode="json"), changes)
    changed["train"] |= {"max_minutes": None, "patience": None}
    return parse_config(RunConfig, changed, where=str(folder.path)), saved.dataset
