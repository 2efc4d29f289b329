"""Recommendations in the order of a ranking model: how likely an action with each of the first items is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.config import RunConfig
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import gather, history_windows
from models.evaluation.actions.losses import probabilities
from models.serving.cache.ranked import RankingCache
from models.serving.recommend.top import NONE
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.task import RankingTask


@dataclass(frozen=True)
class Rerank:
    """A ranking model, and which items it puts in order."""

    model: RankingModel
    config: RunConfig
    """Settings of its run."""
    columns: Columns
    """Of batches that it reads."""
    place: int = 0
    """Of the label that decides, among those of the model."""
    depth: int = 100
    """How many items of each user are put in order, those that the first model has ahead."""

    @classmethod
    def of(cls, task: object, config: RunConfig, label: str | None, depth: int) -> Rerank:
        """Of a ranking run's task.

        Args:
            task: of the run.
            config: its settings.
            label: which of several decides; None: the first one.
            depth: items of each user.

        Raises:
            UserError: it is no ranking run; or its model is told what nobody says of candidates.
        """
        where = "rerank"
        if not isinstance(task, RankingTask):
            raise UserError(
                f"a run of task '{config.task.kind}' does not say how likely an action is",
                where=where,
                fix="name one that was trained with --task ranking",
            )
        model = task.model
        if not isinstance(model, RankingModel) or model.counters.width or model.embedding.known.names:
            raise UserError(
                "an ensemble, counters, or features known beforehand: candidates are not told them here",
                where=where,
                fix="name a run without task.members, task.counters and task.known_features",
            )
        names = [each.name for each in model.labels]
        if label is not None and label not in names:
            fix = did_you_mean(label, names)
            raise UserError(f"the ranking model has no label '{label}'", where=where, fix=fix)
        if depth < 1:
            raise UserError(f"{depth} items cannot be put in order", where=where, fix="name 1 or more")
        return cls(model, config, task.columns, 0 if label is None else names.index(label), depth)

    @property
    def note(self) -> str:
        """What is done, in words."""
        name = self.model.labels[self.place].name
        return f"the first {self.depth:,} items of each user are in the order of the probability of '{name}'"

    def order(self, asked: SequenceData, items: Int64Array) -> tuple[Int64Array, np.ndarray]:
        """The items of each user by falling probability, ties as they came.

        Args:
            asked: histories, each with the question as one event more (`models.serving.recommend.asked.ask`).
            items: [users, items] from the first known one; `NONE` behind all others.

        Returns:
            [users, items] the same in another order, and float32 probabilities (of a label that is a number,
            numbers), minus infinity where there is no item.
        """
        data = replace(asked, columns=Columns.merged(CORE, self.columns))
        there = items != NONE
        logits = np.full(items.shape, -np.inf, np.float32)
        size = self.config.evaluation.batch_size
        for first in range(0, len(items), size):
            rows = np.arange(first, min(first + size, len(items)))
            event = data.offsets[1:][rows] - 1
            windows = history_windows(data, rows, event, event, self.config.model.max_length)
            cache = RankingCache(self.model, gather(data, windows, time=self.config.model.time))
            some = there[rows]
            candidates = torch.from_numpy(items[rows][some] + data.about.first_item)
            found = cache.logits(candidates, some.sum(1))[:, self.place].cpu().numpy()
            part = logits[rows]
            part[some] = found
            logits[rows] = part
        order = np.argsort(-logits, axis=1, kind="stable")
        score = np.take_along_axis(logits, order, 1)
        if self.model.labels[self.place].is_binary:
            score = np.where(np.isfinite(score), probabilities(score), -np.inf).astype(np.float32)
        return np.take_along_axis(items, order, 1), score
