"""Ranking as a `Task`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.loading import SequenceSource, TrainLoader
from models.data.versions import RowMaps
from models.evaluation.actions.labels import VALUE
from models.evaluation.actions.sampled import Negatives
from models.evaluation.config import EvaluationConfig
from models.tasks.config import ModelConfig
from models.tasks.flops import FORWARD_AND_BACKWARD, TrainingFlops, backbone_flops
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.checks import check_learnable
from models.tasks.ranking.counter_head import counted_rows
from models.tasks.ranking.ensemble import EnsembleObjective, RankingEnsemble
from models.tasks.ranking.evaluator import RankingEvaluator
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.negatives import BatchNegatives
from models.tasks.ranking.objective import RankingObjective
from models.tasks.retrieval.evaluator import RetrievalEvaluator
from models.tasks.task import Task


class RankingTask(Task):
    """What is done with a given item, yes or no for each of several actions.

    Args:
        config: sizes of the backbone, and what it is shown.
        objective: the model and its loss.
        negatives: what is drawn beside the events of the log; None: nothing.
    """

    objective: RankingObjective | EnsembleObjective
    model: RankingModel | RankingEnsemble

    def __init__(
        self,
        config: ModelConfig,
        objective: RankingObjective | EnsembleObjective,
        negatives: Negatives | None = None,
    ) -> None:
        self.config, self.objective, self.model = config, objective, objective.model
        self.negatives = negatives
        model = objective.model
        self.batches = (
            None
            if negatives is None
            else BatchNegatives(negatives, model.counters.columns, time_known=config.time == "known")
        )
        self.members = [model] if isinstance(model, RankingModel) else model.each_member
        """The models of an ensemble, or the one that there is."""

    @property
    def columns(self) -> Columns:
        """See `models.tasks.task.Task.columns`."""
        drawn = () if self.batches is None else self.batches.columns
        counters = self.model.counters.columns
        return Columns.merged(CORE, super().columns, self.model.told.columns, counters, drawn)

    def look_at(self, loader: TrainLoader) -> None:
        """See `models.tasks.task.Task.look_at`: how frequent each action is, and the mean of each value; what
        counters say of them; of retrieval as in its own task.

        Raises:
            UserError: the training part has no event of a label, or an action always or never happens.
        """
        if self.objective.joint is not None:
            self.objective.joint.look_at(loader)
        if self.batches is not None:
            self.batches.look_at(loader.source)
        labels = self.model.told.labels
        count, total, squares = (np.zeros(len(labels)) for _ in range(3))
        for data in loader.source:
            learned = data.in_training()
            value = data.events.get(VALUE)
            for place, label in enumerate(labels):
                told = label.of(data.behavior[learned], None if value is None else value[learned])
                told = told[~np.isnan(told)].astype(np.float64)
                count[place] += len(told)
                total[place] += told.sum()
                squares[place] += np.square(told).sum()
        check_learnable(labels, count, total, drawn=self.negatives is not None)
        if self.negatives is not None:
            count *= 1.0 + self.negatives.config.ratio
        for place, label in enumerate(labels):
            number = max(count[place], 1.0)
            mean = total[place] / number
            variance = squares[place] / number - mean**2
            share = (total[place] + 0.5) / (number + 1.0)  # never 0 or 1
            for member in self.members:
                if label.is_binary:
                    member.offset[place] = float(np.log(share / (1.0 - share)))
                else:
                    member.offset[place] = float(mean)
                    member.scale[place] = float(np.sqrt(variance)) if variance > 0 else 1.0
        for member in self.members:
            if member.counter_head is not None:
                known = self.config.time == "known"
                counted = member.counters, member.offset.sigmoid()
                member.counter_head.look_at(counted_rows(loader.source, *counted, time_known=known))

    def prepare(self, batch: PackedBatch) -> LossBatch:
        """See `models.tasks.task.Task.prepare`: every item of which a label is known, the first ones, too;
        and sampled negatives for them."""
        events = torch.arange(batch.num_events)
        firsts = -1 - torch.arange(batch.num_sequences)
        positions = torch.cat([events, firsts])
        known = self.model.told(batch).isnan().all(1).logical_not()
        if self.batches is not None:
            return self.batches.extended(batch, positions[known])
        return LossBatch(batch, positions[known])

    def table_rows(self, maps: RowMaps) -> dict[str, torch.Tensor]:
        """See `models.tasks.task.Task.table_rows`."""
        found = {id(table): rows for member in self.members for table, rows in member.embedding.grown(maps)}
        named = itertools.chain(self.model.named_parameters(), self.model.named_buffers())
        return {name: found[id(tensor)] for name, tensor in named if id(tensor) in found}

    def evaluator(self, source: SequenceSource, config: EvaluationConfig) -> RankingEvaluator:
        """See `models.tasks.task.Task.evaluator`."""
        joint = self.objective.joint
        retrieval = None if joint is None else RetrievalEvaluator(joint.model, self.config, source, config)
        return RankingEvaluator(self.model, self.config, source, config, retrieval, self.negatives)

    def flops(self) -> TrainingFlops:
        """A position costs the head, a token all other linear layers."""
        heads = [part for member in self.members for part in member.heads()]
        matrices = sum(part.weight.numel() for part in heads if isinstance(part, nn.Linear))
        position = FORWARD_AND_BACKWARD * 2.0 * matrices
        found = backbone_flops(self.model, self.config, position=position)
        count = len(self.members)
        attention = {"squared_length": count * found.squared_length, "pair": count * found.pair}
        return replace(found, token=found.token - position, **attention)
