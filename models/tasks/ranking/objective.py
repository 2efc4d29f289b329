"""The training objective of ranking."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.batch import PackedBatch
from models.evaluation.actions.labels import Label
from models.tasks.loss_batch import LossBatch
from models.tasks.ranking.joint import JointLoss
from models.tasks.ranking.model import RankingModel
from models.tasks.retrieval.next_behavior import mean_loss


class LabelLosses(nn.Module):
    """Binary cross-entropy of actions, and half the squared error of values over their variance.

    The loss of a position is the mean over labels, weighted; of a label that is not known it is 0.

    Args:
        labels: what is predicted.
        weights: of them.
    """

    weights: Tensor

    def __init__(self, labels: Sequence[Label], weights: Sequence[float]) -> None:
        super().__init__()
        shares = torch.tensor(weights, dtype=torch.float32)
        self.register_buffer("weights", shares / shares.sum(), persistent=False)
        self.is_binary = [label.is_binary for label in labels]

    def forward(self, found: Tensor, told: Tensor, scale: Tensor) -> Tensor:
        """[n] loss of each position.

        Args:
            found: [n, labels] of the model.
            told: [n, labels] of the labels; NaN where nothing is known.
            scale: [labels] standard deviations of values.
        """
        known = told.isnan().logical_not()
        told = told.masked_fill(~known, 0.0)
        each = []
        for place, is_binary in enumerate(self.is_binary):
            ours, theirs = found[:, place], told[:, place]
            if is_binary:
                each.append(F.binary_cross_entropy_with_logits(ours, theirs, reduction="none"))
            else:
                each.append(0.5 * ((ours - theirs) / scale[place]).square())
        losses = torch.stack(each, 1).masked_fill(~known, 0.0)
        return losses @ self.weights


class RankingObjective(nn.Module):
    """The losses of a model's labels, and of retrieval on its backbone, where that is trained, too.

    Args:
        model: what is trained.
        weights: of its labels.
        joint: the loss of retrieval on the same backbone; None: there is none.
    """

    def __init__(self, model: RankingModel, weights: Sequence[float], joint: JointLoss | None = None) -> None:
        super().__init__()
        self.model, self.joint = model, joint
        self.losses = LabelLosses(model.told.labels, weights)

    def forward(self, step: LossBatch, denominator: Tensor | float | None = None) -> Tensor:
        """The sum of the losses of all positions over `denominator`, by default over their number."""
        if len(step.positions) == 0:
            return nothing(self)
        rows, model = rows_of(step.batch, step.positions), self.model
        tokens, out = model.passed(step.batch)
        found = model.judged(tokens, out, step.batch, rows)
        losses = self.losses(found, model.told(step.batch).index_select(0, rows), model.scale)
        loss = mean_loss(losses, step.mask, denominator)
        if self.joint is None:
            return loss
        if denominator is None:
            denominator = len(losses) if step.mask is None else step.mask.sum().clamp(min=1)
        return loss + self.joint(tokens.behavior_queries(out), step, denominator)


def nothing(objective: nn.Module) -> Tensor:
    """Zero, with zero gradients for every parameter: sums of no elements, even where one is no number."""
    empty = [weight.flatten()[:0].sum() for weight in objective.parameters() if weight.requires_grad]
    return torch.stack(empty).sum().float()


def rows_of(batch: PackedBatch, positions: Tensor) -> Tensor:
    """[positions] int64 rows of `RankingModel.forward`: of position i >= 0 the item after event i, of -1 - s
    the first item of sequence s.

    Positions are found before a batch is padded, which moves the rows of sequences. Those that pad a list of
    positions may be past all rows.
    """
    rows = torch.where(positions < 0, batch.num_events - 1 - positions, positions)
    return rows.clamp(max=batch.num_events + batch.num_sequences - 1)
