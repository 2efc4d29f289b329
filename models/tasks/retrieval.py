"""Retrieval: a backbone's output is a query, and every known item a candidate for what comes next."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.batch import PackedBatch
from models.embedding import InputEmbedding
from models.losses import RetrievalLoss


class RetrievalModel(nn.Module):
    """Embedding, backbone, and cosine scores against item vectors (HSTU, arXiv 2402.17152, experiments).

    Args:
        embedding: turns events into vectors, and holds the items'.
        backbone: [tokens, dim] to [tokens, dim].
        first_item: the smallest id of a known item.
        num_items: known items.
    """

    def __init__(
        self, embedding: InputEmbedding, backbone: nn.Module, *, first_item: int, num_items: int
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.backbone = backbone
        self.first_item = first_item
        self.num_items = num_items

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Queries of unit length, [tokens, dim]: what is wanted after each event."""
        hidden = self.backbone(self.embedding(batch), batch)
        return F.normalize(hidden.float(), dim=-1)

    def item_vectors(self, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of unit length of known items.

        Args:
            ranks: item ids minus the first known one, of any shape; None for all known items.

        Returns:
            [*ranks.shape, dim], or [num_items, dim].
        """
        if ranks is None:
            return F.normalize(self.embedding.item_vectors()[self.first_item :].float(), dim=-1)
        if ranks.numel() >= self.num_items:
            return F.embedding(ranks, self.item_vectors())
        vectors = self.embedding.item_vectors(ranks.flatten() + self.first_item)
        return F.normalize(vectors.float(), dim=-1).view(*ranks.shape, -1)

    def scores(self, batch: PackedBatch) -> torch.Tensor:
        """[sequences, num_items] cosines of known items with the query after each sequence's last event."""
        return self(batch)[batch.offsets[1:] - 1] @ self.item_vectors().T

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

    def forward(self, step: LossBatch) -> torch.Tensor:
        """The mean loss, a scalar."""
        query = self.model(step.batch)[step.positions]
        target = step.batch.target[step.positions] - self.model.first_item
        # Cosines over a small temperature need more digits than bfloat16 has.
        with torch.autocast(query.device.type, enabled=False):
            loss: torch.Tensor = self.loss(query, target, self.model.item_vectors)
        return loss
