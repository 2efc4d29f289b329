"""The objective of retrieval: the loss over all positions that have a target."""

from __future__ import annotations

import torch
from torch import nn

from models.data.batch import PackedBatch
from models.data.item_domains import TARGET_DOMAIN
from models.history.jumps.masses import vote_losses
from models.history.within import Within
from models.layers.token_rows import take_rows
from models.losses import RetrievalLoss
from models.losses.extra import ExtraMass
from models.losses.sources import ItemVectors
from models.losses.views import ItemViews
from models.tasks.loss_batch import LossBatch
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.next_behavior import mean_loss


class RetrievalObjective(nn.Module):
    """What training minimises: the loss over all tokens that have a target, and auxiliary losses.

    These are `loss.next_behavior_weight` times the loss of its behavior, that of its attributes, and that of
    views of items.

    Args:
        model: what is trained, with the attributes that it predicts.
        loss: of its queries.
        views: of items; None: there are none.
        behavior_weight: [behavior ids] float32 weights of what is predicted; None: all positions count alike.
    """

    behavior_weight: torch.Tensor | None

    def __init__(
        self,
        model: RetrievalModel,
        loss: RetrievalLoss,
        views: ItemViews | None = None,
        behavior_weight: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("behavior_weight", behavior_weight, persistent=False)
        self.model = model
        self.loss = loss
        self.views = views

    def forward(self, step: LossBatch, denominator: torch.Tensor | float | None = None) -> torch.Tensor:
        """The sum of the losses of all positions over `denominator`, a scalar.

        Weights of behaviors are divided by their mean over the positions of the step, so that the loss of
        items, and that of their attributes, is the sum of weighted losses over the sum of weights; the other
        losses take no weights.

        Processes that train together average their gradients. Where each divides by the number of positions
        on all of them over the number of processes, the average is that of the mean over all positions,
        however they are spread. A step without positions is zero, with zero gradients for every parameter, so
        that a process that has none still takes part.

        Args:
            step: the batch.
            denominator: by default the number of positions in `step`, which gives their mean loss.
        """
        if len(step.positions) == 0:
            return self._nothing(step.batch, denominator)
        target = step.batch.target[step.positions] - self.model.first_item
        if step.mask is not None:
            target = target.clamp(min=0)  # no item where there is no target, but one that can be looked up
        item_vectors = self._item_vectors(step, target)
        outputs, untold = self.model.encoded(step.batch)
        query = take_rows(self.model.queries(outputs), step.positions, step.mask)
        extra = self.model.extra_mass(outputs, step.batch, self._within(step.batch))
        position_weight = self._weight(step)
        loss: torch.Tensor = self.loss(
            query,
            target,
            item_vectors,
            denominator,
            step.mask,
            domain=self._domain(step),
            extra=None if extra is None else extra.take(step.positions),
            weight=position_weight,
        )
        if self.model.jump_share is not None:
            loss = loss + self._jump_loss(outputs, step, denominator)
        if self.model.next_behavior is not None:
            behavior = step.batch.target_behavior[step.positions]
            losses = self.model.next_behavior.losses(untold.index_select(0, step.positions), behavior)
            weight = self.loss.config.next_behavior_weight
            loss = loss + weight * mean_loss(losses, step.mask, denominator)
        if self.model.attributes is not None:
            items = target + self.model.first_item
            query = query[:, : outputs.shape[1]]  # without the 1 for biases of items
            loss = loss + self.model.attributes(query, items, denominator, step.mask, position_weight)
        return loss if self.views is None else loss + self._views(self.views, step, denominator)

    def _item_vectors(self, step: LossBatch, target: torch.Tensor) -> ItemVectors:
        """Vectors of items for the loss; those of targets are looked up with the inputs where places say how,
        unless all items are looked up for them."""
        model, table = self.model, self.model.embedding.item
        if step.places is None or (len(target) >= model.num_items and not table.is_divided):
            return model.item_vectors
        looked_up = table.look_up_targets(step.batch.item, step.places)
        return lambda ranks: model.item_vectors(ranks, looked_up if ranks is target else None)

    def _jump_loss(
        self, outputs: torch.Tensor, step: LossBatch, denominator: torch.Tensor | float | None
    ) -> torch.Tensor:
        """The loss of jump logits that learn apart, which gives nothing else gradients."""
        assert self.model.jumps is not None
        votes = ExtraMass(*self.model.jumps(outputs.detach(), step.batch)).take(step.positions)
        losses, weight = vote_losses(*votes), self._weight(step)
        return mean_loss(losses if weight is None else losses * weight, step.mask, denominator)

    def _weight(self, step: LossBatch) -> torch.Tensor | None:
        """[positions] weights of which the mean over all positions of the step is 1."""
        if self.behavior_weight is None:
            return None
        weight = self.behavior_weight[step.batch.target_behavior[step.positions]]
        if step.mean_weight is not None:
            return weight / step.mean_weight
        counted = weight if step.mask is None else weight * step.mask
        count = len(weight) if step.mask is None else step.mask.sum()
        return weight * count / counted.sum()

    def _views(
        self, views: ItemViews, step: LossBatch, denominator: torch.Tensor | float | None
    ) -> torch.Tensor:
        """The loss of views counts as often as positions do: in all parts of a step together, once."""
        loss: torch.Tensor = views(self.model.embedding)
        if denominator is None:
            return loss
        positions = len(step.positions) if step.mask is None else step.mask.sum()
        return loss * positions / denominator

    def _domain(self, step: LossBatch) -> torch.Tensor | None:
        """[positions] domain ids of what is predicted, where only items of the domain compete."""
        if not self.loss.config.within_domain:
            return None
        return step.batch[TARGET_DOMAIN].index_select(0, step.positions).long()

    def _within(self, batch: PackedBatch) -> Within | None:
        """Which items compete at each event; None: all."""
        if not self.loss.config.within_domain:
            return None
        return Within(self.loss.sampler.member, batch[TARGET_DOMAIN].long())

    def _nothing(self, batch: PackedBatch, denominator: torch.Tensor | float | None) -> torch.Tensor:
        # Sums of no elements: zero even where a parameter is no number.
        empty = [parameter.flatten()[:0].sum() for parameter in self.parameters() if parameter.requires_grad]
        nothing = torch.stack(empty).sum().float()
        table = self.model.embedding.item
        if not table.is_divided:
            return nothing
        # Other processes look items up in the rows that this one holds, at these same places.
        self.model.embedding.item_vectors(batch.item)
        if self.model.history is not None and self.model.history.item_keys:
            self.model.embedding.item_vectors(batch.item)
        query = table.weight.new_zeros(0, table.embedding_dim)
        extra = ExtraMass(query.sum(1), query.sum(1)) if self.model.has_extra_mass else None
        target = batch.item[:0]
        loss: torch.Tensor = self.loss(query, target, self.model.item_vectors, denominator, extra=extra)
        return nothing + loss
