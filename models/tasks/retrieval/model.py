"""The model of retrieval: a query after every event, and vectors of all items to compare it with."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.data.batch import PackedBatch
from models.distributed.tables import HeldItems
from models.inputs.embedding import InputEmbedding


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
        """Queries, [events, dim] float32: what is wanted after each event."""
        x, tokens = self.embedding(batch)
        return self._scorable(tokens.queries(self.backbone(x, tokens)))

    def item_vectors(self, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of known items, float32.

        Args:
            ranks: item ids minus the first known one, of any shape; None for all known items that this
                process holds (`held_items`).

        Returns:
            [*ranks.shape, dim], or [held_items.count, dim].
        """
        held = self.held_items
        if ranks is None:
            return self._scorable(held.known(self.embedding.item_vectors()))
        if ranks.numel() >= self.num_items and not held.is_divided:
            return F.embedding(ranks, self.item_vectors())
        vectors = self.embedding.item_vectors(ranks.flatten() + self.first_item)
        return self._scorable(vectors).view(*ranks.shape, vectors.shape[1])

    @property
    def held_items(self) -> HeldItems:
        """Which known items this process holds."""
        table = self.embedding.item
        return HeldItems(table.processes, table.shards, self.first_item)

    def _scorable(self, vectors: torch.Tensor) -> torch.Tensor:
        precise = vectors.float()
        return F.normalize(precise, dim=-1) if self.normalize else precise

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
