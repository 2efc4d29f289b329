"""Recommendations in the order of a ranking model: how likely an action with each of the first items is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.wording import number_of
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import gather, history_windows
from models.evaluation.actions.correction import corrected_logits, sampling_rate
from models.evaluation.actions.labels import Label
from models.evaluation.actions.losses import probabilities
from models.serving.cache.ranked import RankingCache
from models.serving.recommend.top import NONE
from models.tasks.ranking.counters import USER
from models.tasks.ranking.ensemble import fused
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.task import RankingTask


@dataclass(frozen=True)
class Rerank:
    """A ranking model, and which items it puts in order."""

    members: Sequence[RankingModel]
    """The models of an ensemble, or the one that there is."""
    config: RunConfig
    """Settings of its run."""
    columns: Columns
    """Of batches that it reads."""
    place: int = 0
    """Of the label that decides, among those of the model."""
    depth: int = 100
    """How many items of each user are put in order, those that the first model has ahead."""
    correction: npt.NDArray[np.float64] | None = None
    """[known items] what is added to logits, where sampled negatives were trained on; None: nothing."""

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
        model = task.members[0]
        if model.embedding.known.names:
            raise UserError(
                "the model is told features of the event that it is asked about, and a candidate is no event",
                where=f"task.known_features = {model.embedding.known.names}",
                fix="name a run without task.known_features",
            )
        if config.task.rates or any(name != USER for name in config.task.counters):
            raise UserError(
                "counters of items are made of the log's events, not of candidates",
                where=f"task.counters = {config.task.counters}, task.rates = {config.task.rates}",
                fix="name a run without task.counters, or with those of the user alone",
            )
        if config.task.counters and "since" in config.task.counter_facts:
            raise UserError(
                "how long ago something was depends on when one is asked, and candidates have no time",
                where=f"task.counter_facts = {config.task.counter_facts}",
                fix="name a run whose task.counter_facts are without since",
            )
        names = [each.name for each in model.labels]
        if label is not None and label not in names:
            fix = did_you_mean(label, names)
            raise UserError(f"the ranking model has no label '{label}'", where=where, fix=fix)
        if depth < 1:
            raise UserError(
                f"{number_of(depth, 'item')} cannot be put in order", where=where, fix="name 1 or more"
            )
        place = 0 if label is None else names.index(label)
        return cls(task.members, config, task.columns, place, depth, _correction(task))

    @property
    def label(self) -> Label:
        """What decides."""
        return self.members[0].labels[self.place]

    @property
    def note(self) -> str:
        """What is done, in words."""
        name = self.label.name
        items = number_of(self.depth, "item of each user is", "items of each user are")
        return f"the first {items} in the order of the probability of '{name}'"

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
            batch = gather(data, windows, time=self.config.model.time)
            some = there[rows]
            chosen = items[rows][some]
            candidates = torch.from_numpy(chosen + data.about.first_item)
            found = self._logits(batch, candidates, some.sum(1))
            if self.correction is not None:
                found = found + self.correction[chosen]
            part = logits[rows]
            part[some] = found
            logits[rows] = part
        order = np.argsort(-logits, axis=1, kind="stable")
        score = np.take_along_axis(logits, order, 1)
        if self.label.is_binary:
            score = np.where(np.isfinite(score), probabilities(score), -np.inf).astype(np.float32)
        return np.take_along_axis(items, order, 1), score

    def _logits(self, batch: PackedBatch, candidates: torch.Tensor, counts: Int64Array) -> np.ndarray:
        """[candidates] float32 of the label that decides, of all members together."""
        each = []
        for member in self.members:
            context = None
            if member.counters.width:  # of the user alone: the same for all candidates
                on_device = batch.to(member.device)
                last = member.counters(on_device, member.offset.sigmoid())[_last_rows(on_device)]
                context = last.repeat_interleave(torch.from_numpy(counts).to(last.device), dim=0)
            cache = RankingCache.for_batch(member, batch, time=self.config.model.time)
            each.append(cache.logits(np.arange(len(counts)), candidates, counts, context=context, new=batch))
        found = each[0] if len(each) == 1 else fused(torch.stack(each))
        logits: np.ndarray = found[:, self.place].cpu().numpy()
        return logits


def _last_rows(batch: PackedBatch) -> torch.Tensor:
    """[sequences] rows of `RankingModel.forward`: of the item after the last event of each."""
    bare = batch.num_events + torch.arange(batch.num_sequences, device=batch.offsets.device)
    return torch.where(batch.lengths > 0, batch.offsets[1:] - 1, bare)


def _correction(task: RankingTask) -> npt.NDArray[np.float64] | None:
    """[known items] log of how often an item is drawn as a negative: with it logits are of the odds that
    an event is on the item."""
    if task.negatives is None:
        return None
    # An item that is never drawn is never contradicted either: it is taken for the rarest one.
    chances = task.negatives.chances
    chances = np.where(chances > 0, chances, chances[chances > 0].min())
    return corrected_logits(np.zeros(len(chances)), sampling_rate(task.negatives.config.ratio, chances))
