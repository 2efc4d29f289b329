"""Retrieval: a backbone's output is a query, and every known item a candidate for what comes next."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.data.batch import PackedBatch
from models.distributed.sharding import HeldItems
from models.inputs.embedding import InputEmbedding
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
        """Queries, [events, dim] float32: what is wanted after each event."""
        x, tokens = self.embedding(batch)
        return self._scorable(tokens.queries(self.backbone(x, tokens)))

    def item_vectors(self, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of known items, float32.

        Args:
            ranks: item ids minus the first known one, of any shape; None for all known items, or, where the
                table is divided among processes, for those that this one holds.

        Returns:
            [*ranks.shape, dim], or [num_items, dim].
        """
        sharded = self.embedding.sharded_items is not None
        if ranks is None and sharded:
            return self._scorable(self.embedding.held_vectors(self.first_item))
        if ranks is None:
            return self._scorable(self.embedding.item_vectors()[self.first_item :])
        if ranks.numel() >= self.num_items and not sharded:
            return F.embedding(ranks, self.item_vectors())
        vectors = self.embedding.item_vectors(ranks.flatten() + self.first_item)
        return self._scorable(vectors).view(*ranks.shape, vectors.shape[1])

    @property
    def held_items(self) -> HeldItems | None:
        """Which known items this process holds, where the table is divided among processes."""
        table = self.embedding.sharded_items
        return None if table is None else HeldItems(table.processes, table.shards, self.first_item)

    @property
    def num_parameters(self) -> int:
        """Parameters, with those that other processes hold."""
        table = self.embedding.sharded_items
        elsewhere = 0 if table is None else (table.num_embeddings - len(table.weight)) * table.embedding_dim
        return elsewhere + sum(parameter.numel() for parameter in self.parameters())

    def _scorable(self, vectors: torch.Tensor) -> torch.Tensor:
        precise = vectors.float()
        return F.normalize(precise, dim=-1) if self.normalize else precise

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class LossBatch:
    """A batch, and which of its tokens have a target.

    A mask, [positions] bool, is false for positions that only fill up a list of fixed length.

    Made while the batch is still in CPU memory: the number of targets decides shapes, and an accelerator
    would be waited for. Not a dataclass, because Fabric takes those apart.
    """

    def __init__(
        self, batch: PackedBatch, positions: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> None:
        self.batch, self.mask = batch, mask
        self.positions = batch.target.nonzero().squeeze(1) if positions is None else positions  # [positions]

    def to(self, device: torch.device) -> LossBatch:
        """The same on another device, copied in the background from page-locked memory."""
        pinned = device.type == "cuda" and self.positions.device.type == "cpu"
        positions = self.positions.pin_memory() if pinned else self.positions
        return LossBatch(
            self.batch.to(device, non_blocking=True),
            positions.to(device, non_blocking=pinned),
            None if self.mask is None else self.mask.to(device),
        )


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
            return self._nothing(step.batch, denominator)
        query = self.model(step.batch).index_select(0, step.positions)
        target = step.batch.target[step.positions] - self.model.first_item
        if step.mask is not None:
            target = target.clamp(min=0)  # no item where there is no target, but one that can be looked up
        loss: torch.Tensor = self.loss(query, target, self.model.item_vectors, denominator, step.mask)
        return loss

    def _nothing(self, batch: PackedBatch, denominator: torch.Tensor | float | None) -> torch.Tensor:
        # Sums of no elements: zero even where a parameter is no number.
        empty = [parameter.flatten()[:0].sum() for parameter in self.parameters() if parameter.requires_grad]
        nothing = torch.stack(empty).sum().float()
        table = self.model.embedding.sharded_items
        if table is None:
            return nothing
        # Other processes look items up in the rows that this one holds, at these same places.
        self.model.embedding.item_vectors(batch.item)
        query = table.weight.new_zeros(0, table.embedding_dim)
        loss: torch.Tensor = self.loss(query, batch.item[:0], self.model.item_vectors, denominator)
        return nothing + loss
