"""Retrieval beside ranking, on one backbone: what comes next is asked where an action has been told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.data.loading import TrainLoader
from models.losses import RetrievalLoss
from models.losses.negatives import NegativeSampler
from models.tasks.config import TaskSettings
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.model import RankingModel
from models.tasks.retrieval.model import RetrievalModel


class JointRetrieval(RetrievalModel):
    """The retrieval model that has embedding and backbone of a ranking model: its queries are what the
    backbone says at actions, which see the item, what was done with it, and all before."""

    def encoded(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """See `RetrievalModel.encoded`."""
        x, tokens = self.embedding(batch)
        known = tokens.behavior_queries(self.backbone(x, tokens))
        return known, known


class JointLoss(nn.Module):
    """A retrieval loss of the queries at actions.

    Args:
        model: the retrieval model; its parameters are those of the ranking model, which names them.
        loss: by the settings of `loss`.
        weight: of its sum over positions, beside that of ranking.
    """

    def __init__(self, model: JointRetrieval, loss: RetrievalLoss, weight: float) -> None:
        super().__init__()
        self._model = [model]  # not as a module of this one: it would name all parameters again
        self.loss, self.weight = loss, weight

    def look_at(self, loader: TrainLoader) -> None:
        """See `models.tasks.task.Task.look_at`: logQ corrects targets of the batch by their shares."""
        negatives = self.loss.config.negatives
        if self.loss.config.kind != "full_softmax" and negatives.logq and negatives.source != "catalog":
            self.loss.sampler.count_targets(torch.from_numpy(loader.target_counts()))

    @property
    def model(self) -> JointRetrieval:
        """The retrieval model."""
        return self._model[0]

    def forward(self, queries: Tensor, step: LossBatch, denominator: Tensor | float) -> Tensor:
        """The weighted sum over positions with a known next item, over `denominator`; a scalar.

        Args:
            queries: [events, dim] of the backbone at actions.
            step: the batch; positions of first items have no next item to be asked for.
            denominator: the positions of ranking.
        """
        events = step.positions.clamp(0, step.batch.num_events - 1)
        target = step.batch.target[events]
        counts = (step.positions >= 0) & (target > 0)
        if step.mask is not None:
            counts = counts & step.mask
        rank = (target - self.model.first_item).clamp(min=0)
        asked = self.model.queries(queries.index_select(0, events))
        loss: Tensor = self.loss(asked, rank, self.model.item_vectors, denominator, counts)
        return self.weight * loss


def joint_loss(settings: TaskSettings, model: RankingModel, catalog: ItemCatalog) -> JointLoss | None:
    """The loss that the settings ask for; None: ranking alone.

    Raises:
        UserError: actions have no tokens of their own.
    """
    task, loss = settings.task, settings.loss
    if not task.retrieval_weight:
        return None
    if task.actions == "added":
        raise UserError(
            "what comes next is asked at an action, and here the action is in the next item's token",
            where="task.actions = added",
            fix="--set task.actions=joined, or task.retrieval_weight=0",
        )
    retrieval = JointRetrieval(
        model.embedding,
        model.backbone,
        first_item=catalog.first_item,
        num_items=catalog.num_item_ids - catalog.first_item,
        normalize=loss.normalize,
        query_scale=1.0 / settings.model.relative_size.width,
        temperature=loss.temperature,
    )
    sampler = NegativeSampler(catalog.train_count, catalog.first_item, loss.negatives.popularity_power)
    alike = not settings.embedding.items_vary
    of_items = RetrievalLoss(loss, sampler, retrieval.held_items, alike=alike)
    return JointLoss(retrieval, of_items, task.retrieval_weight)
