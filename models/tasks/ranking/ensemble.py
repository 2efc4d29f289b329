"""Ensembles of ranking models that are trained together (CETNet, arXiv 2411.13700)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.batch import PackedBatch
from models.evaluation.actions.labels import Label
from models.inputs.ranking_embedding import RankingEmbedding
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.counters import Counters
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.objective import LabelLosses, nothing, rows_of
from models.tasks.ranking.told import Told
from models.tasks.retrieval.next_behavior import mean_loss


class RankingEnsemble(nn.Module):
    """Several ranking models, each with tables and a backbone of its own, whose predictions are fused.

    `p = sum_m w_m p_m`, where `w` is the softmax over members of their confidence, the negative entropy of
    `p_m`: whoever is sure counts for more.

    Args:
        members: of the same labels and counters.
    """

    def __init__(self, members: Sequence[RankingModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """[rows, labels] float32 logits, see `RankingModel.forward`."""
        return fused(self.each(batch, rows))

    def each(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """[members, rows, labels] those of each member."""
        return torch.stack([member(batch, rows) for member in self.members])

    @property
    def each_member(self) -> list[RankingModel]:
        """The members."""
        return [member for member in self.members if isinstance(member, RankingModel)]

    @property
    def first(self) -> RankingModel:
        """One of them: what batches tell is the same for all."""
        return self.each_member[0]

    @property
    def embedding(self) -> RankingEmbedding:
        """Whose columns and lengths are those of all members."""
        return self.first.embedding

    @property
    def backbone(self) -> nn.Module:
        """Of the first one."""
        return self.first.backbone

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.first.labels

    @property
    def told(self) -> Told:
        return self.first.told

    @property
    def counters(self) -> Counters:
        return self.first.counters

    @property
    def device(self) -> torch.device:
        return self.first.device


def fused(logits: Tensor) -> Tensor:
    """[rows, labels] logits of `sum_m w_m p_m`, of logits [members, rows, labels]; no digits are lost where
    members are sure."""
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    confidence = yes.exp() * yes + no.exp() * no
    weight = confidence.log_softmax(0)
    return torch.logsumexp(weight + yes, 0) - torch.logsumexp(weight + no, 0)


def disagreement(logits: Tensor) -> Tensor:
    """[rows, labels] symmetric Kullback-Leibler divergence of members, the mean over their pairs.

    Of Bernoulli variables `KL(p, q) + KL(q, p) = (p - q) (logit p - logit q)`.
    """
    count = logits.shape[0]
    p = logits.sigmoid()
    pairs = [
        (p[one] - p[other]) * (logits[one] - logits[other])
        for one in range(count)
        for other in range(one + 1, count)
    ]
    return torch.stack(pairs).mean(0)


class EnsembleObjective(nn.Module):
    """The loss of what is fused, the mean of those of members, and how far members disagree, weighted.

    Args:
        model: whose members are trained together.
        weights: of labels.
        collaboration: weight of the disagreement.
    """

    joint = None
    """Retrieval is trained with one model alone."""

    def __init__(self, model: RankingEnsemble, weights: Sequence[float], collaboration: float) -> None:
        super().__init__()
        self.model, self.collaboration = model, collaboration
        self.losses = LabelLosses(model.told.labels, weights)

    def forward(self, step: LossBatch, denominator: Tensor | float | None = None) -> Tensor:
        """See `RankingObjective.forward`."""
        if len(step.positions) == 0:
            return nothing(self)
        rows, scale = rows_of(step.batch, step.positions), self.model.first.scale
        each = self.model.each(step.batch, rows)
        told = self.model.told(step.batch).index_select(0, rows)
        own = torch.stack([self.losses(member, told, scale) for member in each])
        losses = self.losses(fused(each), told, scale) + own.mean(0)
        if self.collaboration:
            apart = disagreement(each).masked_fill(told.isnan(), 0.0)
            losses = losses + self.collaboration * (apart @ self.losses.weights)
        return mean_loss(losses, step.mask, denominator)
