"""Weights that a training does not draw: its own, of an earlier version of the data, or another run's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from models.config import RunConfig
from models.data.side import Choice
from models.data.versions import RowMaps, differences
from models.optim import OptimizerSet
from models.runs.checkpoint import Checkpoint, load_checkpoint
from models.runs.of_data import fitted
from models.runs.regrow import regrow
from models.runs.run_folder import open_run
from models.tasks.task import Task


@dataclass(frozen=True)
class Adapter:
    """Puts the tables of checkpoints into the rows of the data set that is trained on.

    Args:
        config: of the training.
        shards: the data set.
        task: what is trained.
        optimizer: its optimizer.
    """

    config: RunConfig
    shards: ShardFolder
    task: Task
    optimizer: OptimizerSet

    def to_later_version(self, saved: Checkpoint, dataset: dict[str, Any]) -> Checkpoint:
        """The checkpoint of a run on an earlier version of the data set; any other as it is.

        Args:
            saved: the checkpoint.
            dataset: what is remembered of the data set now.
        """
        if saved.dataset.get("digest") == dataset["digest"]:
            # Runs of before remember less.
            return Checkpoint(**{**vars(saved), "dataset": dataset})
        if differences(saved.dataset, self.shards):
            return saved  # it is told what differs where settings are compared, too
        moved = self._moved(saved, RowMaps.of_later_version(saved.dataset, self.shards))
        return Checkpoint(**{**vars(moved), "dataset": dataset})

    def from_run(self, path: Path) -> tuple[Checkpoint, Path]:
        """The weights that another run ended with: of its best checkpoint, or its last.

        Items, behaviors and values of features are found again by their ids; the others' rows are fresh, and
        so are terms of logits that the other data set had nothing for.

        Returns:
            The checkpoint, with the tables of this data set, and its file.

        Raises:
            UserError: the run cannot be read, or its data set is no longer there, or is another one now.
        """
        run = open_run(path)
        file = run.best if run.best.exists() else run.last
        saved = load_checkpoint(file)
        if not differences(saved.dataset, self.shards):
            return self._moved(saved, RowMaps.of_later_version(saved.dataset, self.shards)), file
        old = open_shards(run.data)
        changed = differences(saved.dataset, old)
        if changed:
            raise UserError(
                f"the data set of the run to start from has changed: {'; '.join(changed)}",
                where=f"--init {path}",
                fix="bring back the data set that the run was trained on: its ids are needed",
            )
        self._check_features(old)
        moved = self._moved(saved, RowMaps.between(old, self.shards))
        return replace(moved, model=fitted(self.task.model, moved.model)), file

    def _moved(self, saved: Checkpoint, maps: RowMaps) -> Checkpoint:
        numbers = {id(parameter): number for number, parameter in enumerate(self.optimizer.parameters)}
        names = {
            numbers[id(parameter)]: name
            for name, parameter in self.task.model.named_parameters()
            if id(parameter) in numbers
        }
        return regrow(saved, self.task.table_rows(maps), names, self.config.train.seed)

    def _check_features(self, old: ShardFolder) -> None:
        embedding, loss = self.config.embedding, self.config.loss
        chosen: list[tuple[str, Choice, str]] = [
            ("user", embedding.user_features, "embedding.user_features=[]"),
            ("event", embedding.event_features, "embedding.event_features=[]"),
        ]
        if embedding.features != "none":
            chosen.append(("item", embedding.item_features, "embedding.features=none"))
        if loss.attributes_weight:
            chosen.append(("item", loss.attributes, "loss.attributes_weight=0"))
        for of, choice, setting in chosen:
            theirs, ours = (_features(shards, of, choice) for shards in (old, self.shards))
            if setting.startswith("loss."):  # numbers are no values to predict
                theirs, ours = ([each for each in some if each[1] != "numeric"] for some in (theirs, ours))
            if theirs != ours:
                raise UserError(
                    f"the data set of the run to start from has other {of} features: {_listed(theirs)}; "
                    f"here {_listed(ours)}",
                    where="--init",
                    fix=f"prepare both with the same {of} features, or --set {setting} in both",
                )


def _features(shards: ShardFolder, of: str, choice: Choice) -> list[tuple[str, str]]:
    """Names and kinds of the features that count."""
    entries: list[FeatureEntry] = getattr(shards.manifest, f"{of}_features")
    return [(entry.name, entry.kind) for entry in entries if choice == "all" or entry.name in choice]


def _listed(features: list[tuple[str, str]]) -> str:
    return ", ".join(name for name, _ in features) or "none"
