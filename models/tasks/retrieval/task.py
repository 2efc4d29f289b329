"""Retrieval as a `Task`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch

from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.loading import SequenceSource, TrainLoader
from models.data.versions import RowMaps
from models.evaluation.config import EvaluationConfig
from models.history.jumps import JumpLogits
from models.inputs.item_features import grown_tables
from models.losses.config import LossConfig
from models.tasks.config import ModelConfig
from models.tasks.flops import FORWARD_AND_BACKWARD, TrainingFlops, backbone_flops
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.evaluator import RetrievalEvaluator
from models.tasks.retrieval.objective import RetrievalObjective
from models.tasks.task import Task

NO_COLUMNS = Columns()


class RetrievalTask(Task):
    """Every known item is ranked for what comes next.

    Args:
        config: sizes of the backbone, and what it is shown.
        loss: settings of the loss.
        objective: the model and its loss.
        more: columns that the loss reads besides the core ones and those of the embedding.
    """

    new_items = 0
    """Known items that the model was not trained with, the last ones: they came with a later version."""

    def __init__(
        self,
        config: ModelConfig,
        loss: LossConfig,
        objective: RetrievalObjective,
        more: Columns = NO_COLUMNS,
    ) -> None:
        self.config, self.loss, self.objective, self.model = config, loss, objective, objective.model
        self.more = more
        self.looks_up_targets = loss.kind != "full_softmax"
        weights = objective.behavior_weight
        self._weights = None if weights is None else weights.cpu()  # for batches on the host

    @property
    def columns(self) -> Columns:
        """See `models.tasks.task.Task.columns`."""
        return Columns.merged(super().columns, self.more)

    def look_at(self, loader: TrainLoader) -> None:
        """See `models.tasks.task.Task.look_at`: logQ corrects targets of the batch by their shares, and jump
        logits learn from tables of what follows what."""
        negatives = self.loss.negatives
        if self.loss.kind != "full_softmax" and negatives.logq and negatives.source != "catalog":
            weight = self.objective.behavior_weight
            counted = None if weight is None else (weight > 0).cpu().numpy()
            counts = loader.target_counts(counted)
            self.objective.loss.sampler.count_targets(torch.from_numpy(counts))
        if isinstance(self.model.jumps, JumpLogits):
            member = self.objective.loss.sampler.member if self.loss.within_domain else None
            self.model.jumps.count(loader.source, member=member)

    def prepare(self, batch: PackedBatch) -> LossBatch:
        """See `models.tasks.task.Task.prepare`: positions of no weight have no loss."""
        if self._weights is None:
            return LossBatch(batch)
        positions = batch.target.nonzero().squeeze(1)
        weight = self._weights[batch.target_behavior[positions]]
        kept = weight > 0
        return LossBatch(batch, positions[kept], weight=float(weight[kept].double().sum()))

    def table_rows(self, maps: RowMaps) -> dict[str, torch.Tensor]:
        """See `models.tasks.task.Task.table_rows`."""
        found = {id(table): rows for table, rows in self.model.embedding.grown(maps)}
        if self.model.history is not None:
            found |= {id(table): maps.behavior_pairs for table in self.model.history.by_behavior}
            if self.model.history.item is not None:
                found[id(self.model.history.item)] = maps.items
        if self.model.item_bias is not None:
            found[id(self.model.item_bias)] = maps.known_items(self.model.first_item)
        if self.model.jumps is not None:
            found |= {id(table): rows for table, rows in self.model.jumps.grown(maps)}
        if self.model.trends is not None:
            found[id(self.model.trends.behavior)] = maps.behaviors
        if self.model.next_behavior is not None:
            found |= {id(weight): maps.behaviors for weight in self.model.next_behavior.parameters()}
        if self.model.attributes is not None:
            labels = self.model.attributes.labels
            grown = grown_tables(labels, labels.names, maps.features)
            found |= {id(table): rows for table, rows in grown}
        named = itertools.chain(self.model.named_parameters(), self.model.named_buffers())
        return {name: found[id(tensor)] for name, tensor in named if id(tensor) in found}

    def evaluator(self, source: SequenceSource, config: EvaluationConfig) -> RetrievalEvaluator:
        """See `models.tasks.task.Task.evaluator`."""
        return RetrievalEvaluator(self.model, self.config, source, config, self.new_items)

    def flops(self) -> TrainingFlops:
        """A position costs the scores of the items that it is compared with.

        Negatives from the batch are counted as if they were all items.
        """
        items = self.model.num_items
        if self.loss.kind != "full_softmax" and self.loss.negatives.source == "catalog":
            items = min(items, self.loss.negatives.count)
        items += 0 if self.model.attributes is None else self.model.attributes.values
        position = FORWARD_AND_BACKWARD * 2.0 * items * self.config.dim
        found = backbone_flops(self.model, self.config, position=position)
        history = self.model.history
        if history is None or history.query is None:
            return found
        # A product a pair, 2 * dim, and length^2 / 2 pairs; its matrices are counted as all others.
        pairs = FORWARD_AND_BACKWARD * history.query.out_features
        return replace(found, squared_length=found.squared_length + pairs, pair=found.pair + 2.0 * pairs)
