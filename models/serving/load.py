"""A trained model, loaded from its run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.storage import FolderLike
from models.build import build_task
from models.config import RunConfig
from models.data.about import About, about_sequences
from models.data.tables_only import open_tables
from models.data.versions import RowMaps, differences
from models.gpu.config import DeviceName
from models.gpu.device import pick_device
from models.runs.checkpoint import load_checkpoint, load_weights, position_in
from models.runs.regrow import regrow
from models.runs.run_folder import RunFolder, open_run
from models.serving.recommend.recommend import Histories, Recommendations, Served, recommend
from models.serving.recommend.request import Wanted
from models.serving.recommend.rerank import Rerank
from models.serving.score import History, asking_for, behaviors_after, score_histories
from models.tasks.retrieval import RetrievalModel, RetrievalTask
from models.tasks.task import Task

Which = Literal["best", "last"]
"""Of a run's checkpoints: the one of the best validation, or the latest."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A run's model with its weights, and what it was trained on."""

    run: Path
    config: RunConfig
    """All settings of the run."""
    task: Task
    """What the model was trained for, with the trained weights, in evaluation mode, on its device."""
    shards: ShardFolder
    """The data set."""
    checkpoint: Which
    progress: dict[str, Any]
    """Where the training stood: `epoch`, `step`, and the validation metrics of then."""
    new_items: int = 0
    """Known items that came with a later version of the data set: the last ones, which the model has never
    seen. Their vectors are as fresh as those of an untrained model."""

    @property
    def module(self) -> nn.Module:
        """The model. In retrieval, `module(batch)` gives a query vector an event, [events, dim] float32, and
        `module.item_vectors()` the vectors that they are scored against, [known items, dim] float32."""
        return self.task.model

    @cached_property
    def about(self) -> About:
        """What holds for all sequences: ids of items and behaviors, whether there are times."""
        return about_sequences(self.shards)

    @cached_property
    def item_ids(self) -> pa.Array:
        """[known items] the ids of the log; the item at place j has the index `about.first_item + j`."""
        return self.shards.items().column("id").combine_chunks()

    def score(self, histories: Sequence[History], *, behavior: str | None = None) -> Tensor:
        """Scores of all known items for what comes after each history.

        Args:
            histories: see `History`; each has at least one event.
            behavior: name of the behavior that is wanted, whatever the histories say: `buy` asks what they
                would buy. For models that are told (`embedding.query_behavior`, `behavior_first`).

        Returns:
            [histories, known items] float32, on the CPU; column j is the item `item_ids[j]`. As in an
            evaluation, nothing is left out: items of the history have scores, too.

        Raises:
            UserError: a history is empty, or has ids that the data set does not have; the model is not told
                which behavior is wanted, or there is none of that name; or the model scores no items.
        """
        if behavior is not None:
            histories = asking_for(behavior, histories, self.shards, told=self._retrieval.is_told_behavior)
        return score_histories(self._retrieval, self.config, self.shards, histories)

    def recommend(
        self,
        users: Sequence[Any] | pa.Array | None = None,
        *,
        histories: Histories | None = None,
        **wanted: Any,
    ) -> Recommendations:
        """The items that score highest after the last event of each user's whole history.

        They are, but with an index, exactly the first of a ranking of all items by the scores of evaluations,
        history, jump and trend logits included; equal scores are in the order of items (`item_ids`). A user
        of whom the model is shown no event gets what is most popular, and `answer` says so.

        Args:
            users: ids as in the log, who are answered in this order; None, without `histories`: all users
                of the data set, in its order.
            histories: of other people: a file (Parquet, JSON lines, CSV), a pyarrow table, its batches, or
                rows as dictionaries. Rows are events, `user, item[, behavior][, timestamp][, domain]`, or
                users with lists of these. Ids, names and times are as in the log; items that are not known
                are unknown items. `at`, a time of asking of each user, may be there, too.
            wanted: what is asked for, see `models.serving.recommend.request.Wanted`: `k` (10); `at`, the time
                of asking (now) of models with `model.time=known`: a datetime, text or ticks, never before a
                user's last event; `behavior` and `domain`, names of what is wanted; `candidates` and
                `exclude`, ids of items; `where`, conditions such as `genre=Drama`; `exclude_seen`: whether
                items with a target behavior in the user's history are left out (as the run's evaluation
                does), or the behaviors that make an item seen; `columns` of items, and `items`, where further
                ones are: a table or file with `item`, or the folder with the item tables of the spec;
                `index`: `exact`, or `ann` or an `ItemIndex` that was built before
                (`models.serving.recommend.index`), which find most of the top items without scoring all;
                `rerank`, a ranking run on the same data set: the first `rerank_depth` (100) items of users of
                the data set are put in the order of the probability of its label (`rerank_label`, where it
                has several), which then is the score.

        Returns:
            A stream of batches with `user`, `rank` (from 1), `item`, `score`, `answer` (`model`, or
            `popularity`, whose score is how often an item occurs), and the columns of items. Its notes say
            what was decided.

        Raises:
            UserError: what is asked for the data set does not have, or the model is not told; or, while they
                are made, a history cannot be read.
        """
        asked, rerank = Wanted(**wanted), None
        if asked.rerank is not None:
            name: DeviceName = "cuda" if next(self.module.parameters()).is_cuda else "cpu"
            judge = load_model(asked.rerank, data=self.shards.folder, device=name)
            rerank = Rerank.of(judge.task, judge.config, asked.rerank_label, asked.rerank_depth)
        return recommend(self.served, users, histories, asked, rerank)

    @property
    def served(self) -> Served:
        """What recommendations are made with.

        Raises:
            UserError: the model scores no items.
        """
        return Served(self._retrieval, self.config, self.shards, self.task.columns, self.new_items)

    def next_behaviors(self, histories: Sequence[History]) -> Tensor:
        """How probable each behavior is to come next.

        Args:
            histories: see `History`; each has at least one event. What they want is not looked at.

        Returns:
            [histories, behaviors] float32, on the CPU; column j is the behavior `about.behaviors[j]`.

        Raises:
            UserError: as `score`; or the model was not trained to predict behaviors.
        """
        if self._retrieval.next_behavior is None:
            raise UserError(
                "the model predicts no behaviors", fix="train with --set loss.next_behavior_weight=0.1"
            )
        return behaviors_after(self._retrieval, self.config, self.shards, histories)

    @property
    def _retrieval(self) -> RetrievalModel:
        if not isinstance(self.module, RetrievalModel):
            raise UserError(
                f"a model of task '{self.config.task.kind}' scores no items",
                where=f"task.kind = {self.config.task.kind}",
                fix="name a run of task.kind=retrieval",
            )
        return self.module


def load_model(
    run: str | PathLike[str],
    *,
    checkpoint: Which = "best",
    data: FolderLike | None = None,
    device: DeviceName = "auto",
) -> TrainedModel:
    """Load the model of a run.

    Args:
        run: the run's folder.
        checkpoint: `best` on validation, or the `last`.
        data: the shard folder, where it has moved since the training; urls too. Its items, and what they are
            called, are part of the model. A later version, to which `lrm prepare --append` added, will do.
            Where it is gone, what the run keeps of it will do for whatever needs no sequences.
        device: where the module is; `auto` is a GPU where there is one.

    Raises:
        UserError: the folder is not a run, its checkpoint is missing or damaged, the data is not what the
            model was trained on, or there is no such device.
    """
    folder = open_run(Path(run))
    if checkpoint not in ("best", "last"):
        raise UserError(f"there is no checkpoint '{checkpoint}'", where="checkpoint", fix="name best or last")
    path = folder.best if checkpoint == "best" else folder.last
    saved = load_checkpoint(path)
    position_in(saved, path)
    config = parse_config(RunConfig, saved.config, where=str(path))
    shards = _open_data(data, folder)
    maps = _rows(saved.dataset, shards)
    task = build_task(config, shards)
    if maps.moves:
        saved = regrow(saved, task.table_rows(maps), {}, config.train.seed)
    load_weights(task.model, saved.model, path)
    if isinstance(task, RetrievalTask):
        task.new_items = maps.new_items
    with memory_errors_told(task):
        task.objective.to(pick_device(device)).eval()
    return TrainedModel(folder.path, config, task, shards, checkpoint, saved.progress, maps.new_items)


@contextmanager
def memory_errors_told(task: Task) -> Iterator[None]:
    """Raise UserError where the GPU's memory does not suffice for a model and its scores."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{task.num_parameters:,} parameters and the scores do not fit on the GPU",
            fix="use a GPU with more free memory, or the CPU: CUDA_VISIBLE_DEVICES= before the command",
        ) from error


def _open_data(data: FolderLike | None, run: RunFolder) -> ShardFolder:
    """The data set; where it is not there, what the run keeps of it."""
    if data is not None:
        return open_shards(data)
    try:
        return open_shards(run.data)
    except UserError as error:
        missing = UserError(
            f"{error.what}: the run was trained on the data set that was there",
            where=error.where or str(run.data),
            fix="if it has moved, say where it is now: --data DIR",
        )
    kept = open_tables(run.dataset, missing)
    if kept is None:
        raise missing
    return kept


def _rows(dataset: dict[str, Any], shards: ShardFolder) -> RowMaps:
    """Where rows of the tables go, of a model that was trained on this data set or an earlier version of it.

    Raises:
        UserError: it was another one.
    """
    found = differences(dataset, shards)
    if found:
        raise UserError(
            f"the model was trained on another data set: {'; '.join(found)}",
            where=shards.where(),
            fix="name the data set it was trained on, or a later version of it: --data DIR",
        )
    return RowMaps.of_later_version(dataset, shards)
