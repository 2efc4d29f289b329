"""Retrieval: a backbone's output is a query, and every known item a candidate for what comes next."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.batch import PackedBatch
from models.embedding import InputEmbedding
from models.losses import RetrievalLoss


class RetrievalModel(nn.Module):
    """Embedding, backbone, and scores against item vectors (HSTU, arXiv 2402.17152, experiments).

    Args:
        embedding: turns events into vectors, and holds the items'.
        backbone: [tokens, dim] to [tokens, dim].
        first_item: the smallest id of a known item.
        num_items: known items.
        normalize: queries and item vectors have unit length, so that scores are cosines; otherwise they are
            as they come, and scores are plain dot products (SASRec, arXiv 1808.09781).
    """

    def __init__(
        self,
        embedding: InputEmbedding,
        backbone: nn.Module,
        *,
        first_item: int,
        num_items: int,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.backbone = backbone
        self.first_item = first_item
        self.num_items = num_items
        self.normalize = normalize

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Queries, [tokens, dim] float32: what is wanted after each event."""
        return self._scorable(self.backbone(self.embedding(batch), batch))

    def item_vectors(self, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of known items, float32.

        Args:
            ranks: item ids minus the first known one, of any shape; None for all known items.

        Returns:
            [*ranks.shape, dim], or [num_items, dim].
        """
        if ranks is None:
            return self._scorable(self.embedding.item_vectors()[self.first_item :])
        if ranks.numel() >= self.num_items:
            return F.embedding(ranks, self.item_vectors())
        vectors = self.embedding.item_vectors(ranks.flatten() + self.first_item)
        return self._scorable(vectors).view(*ranks.shape, -1)

    def _scorable(self, vectors: torch.Tensor) -> torch.Tensor:
        precise = vectors.float()
        return F.normalize(precise, dim=-1) if self.normalize else precise

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class LossBatch:
    """A batch, and which of its tokens have a target.

    Made while the batch is still in CPU memory: the number of targets decides shapes, and an accelerator
    would be waited for. Not a dataclass, because Fabric takes those apart.
    """

    def __init__(self, batch: PackedBatch, positions: torch.Tensor | None = None) -> None:
        self.batch = batch
        self.positions = batch.target.nonzero().squeeze(1) if positions is None else positions  # [positions]

    def to(self, device: torch.device) -> LossBatch:
        """The same on another device, copied in the background from page-locked memory."""
        pinned = device.type == "cuda" and self.positions.device.type == "cpu"
        positions = self.positions.pin_memory() if pinned else self.positions
        return LossBatch(self.batch.to(device, non_blocking=True), positions.to(device, non_blocking=pinned))


class RetrievalObjective(nn.Module):
    """What training minimises: the loss over all tokens that have a target."""

    def __init__(self, model: RetrievalModel, loss: RetrievalLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, step: LossBatch, denominator: torch.Tensor | float | None = None) -> torch.Tensor:
        """The sum of the losses of all positions over `denominator`, a scalar.

        Processes that train together average their gradients. Where each divides by the number of positions
        on all of them over the number of processes, the average is that of the mean over all positions,
        however they are spread. A step without positions is zero, with zero gradients for every parameter, so
        that a process that has none still takes part.

        Args:
            step: the batch.
            denominator: by default the number of positions in `step`, which gives their mean loss.
        """
        if len(step.positions) == 0:
            return self._nothing()
        query = self.model(step.batch).index_select(0, step.positions)
        target = step.batch.target[step.positions] - self.model.first_item
        loss: torch.Tensor = self.loss(query, target, self.model.item_vectors, denominator)
        return loss

    def _nothing(self) -> torch.Tensor:
        # Sums of no elements: zero even where a parameter is no number.
        empty = [parameter.flatten()[:0].sum() for parameter in self.parameters() if parameter.requires_grad]
        return torch.stack(empty).sum().float()
