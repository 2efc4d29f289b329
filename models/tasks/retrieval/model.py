"""The model of retrieval: a query after every event, and vectors of all items to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from models.data.batch import PackedBatch
from models.data.sequences import Int64Array
from models.distributed.tables import HeldItems
from models.evaluation.sparse import SparseMass
from models.evaluation.transfer import to_device
from models.history.jumps import ExactJumpLogits, JumpLogits, JumpMass
from models.history.terms import HistoryLogits
from models.history.trends.logits import TrendLogits, TrendMass
from models.history.trends.shares import NOTHING
from models.history.within import Within
from models.inputs.embedding import InputEmbedding
from models.layers.roles import Role
from models.layers.unit import unit_rows
from models.losses.attributes import NextAttributes
from models.losses.extra import ExtraMass
from models.tasks.retrieval.next_behavior import NextBehavior


class RetrievalModel(nn.Module):
    """Embedding, backbone, and scores against item vectors (HSTU, arXiv 2402.17152, experiments).

    Args:
        embedding: turns events into vectors, and holds the items'.
        backbone: [tokens, dim] to [tokens, dim].
        first_item: the smallest id of a known item.
        num_items: known items.
        normalize: queries and item vectors have unit length, so that scores are cosines; otherwise they are
            as they come, and scores are plain dot products (SASRec, arXiv 1808.09781).
        temperature: of the loss, by which scores are divided where other logits are added to them.
        history: gives past events logits that compete with the scores of items.
        jumps: gives past events votes for what follows their items, which compete with them, too.
        trends: gives what is popular at the moment such logits.
        next_behavior: predicts the next event's behavior.
        query_scale: factor of queries, where they are not normalized.
        attributes: predicts attributes of the next item, in training alone.
    """

    parameter_roles: ClassVar = {"item_bias": Role.EMBEDDING}
    item_bias: nn.Parameter | None

    def __init__(
        self,
        embedding: InputEmbedding,
        backbone: nn.Module,
        *,
        first_item: int,
        num_items: int,
        normalize: bool = True,
        temperature: float = 1.0,
        history: HistoryLogits | None = None,
        jumps: JumpLogits | ExactJumpLogits | None = None,
        trends: TrendLogits | None = None,
        next_behavior: NextBehavior | None = None,
        attributes: NextAttributes | None = None,
        query_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.backbone = backbone
        self.first_item = first_item
        self.num_items = num_items
        self.normalize = normalize
        self.temperature = temperature
        self.query_scale = query_scale
        self.register_parameter("item_bias", None)
        self.history = history
        self.jumps = jumps
        self.jump_share: float | None = None
        """Probability that goes by votes, which learn apart; None: they compete in the softmax."""
        self.trends = trends
        self.next_behavior = next_behavior
        self.attributes = attributes

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Queries, [events, dim] float32: what is wanted after each event."""
        return self.queries(self.outputs(batch))

    def outputs(self, batch: PackedBatch) -> torch.Tensor:
        """[events, dim] what the backbone knows after each event, of which queries and history logits are
        made."""
        return self.encoded(batch)[0]

    def encoded(self, batch: PackedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, and [events, dim] what it knows before it is told which behavior is wanted: where it is
        not told, the same."""
        x, tokens = self.embedding(batch)
        out = self.backbone(x, tokens)
        known = tokens.queries(out)
        return known, known if tokens.asking_behavior is None else tokens.behavior_queries(out)

    @property
    def is_told_behavior(self) -> bool:
        """Whether scores depend on which behavior is wanted, that of the event to predict."""
        by_logits = self.history is not None and len(self.history.by_behavior) > 0
        by_jumps = self.jumps is not None and len(self.jumps.by_behavior) > 0
        return self.embedding.is_told_behavior or by_logits or by_jumps or self.trends is not None

    def queries(self, outputs: torch.Tensor) -> torch.Tensor:
        """[n, query_dim] float32 queries of some outputs, [n, dim]."""
        query = self._scorable(outputs)
        if self.query_scale != 1.0 and not self.normalize:
            query = self.query_scale * query
        return query if self.item_bias is None else F.pad(query, (0, 1), value=1.0)

    def biased(self, vectors: torch.Tensor, ranks: torch.Tensor | None = None) -> torch.Tensor:
        """[..., query_dim] vectors of items, [..., dim], with the bias of each as one number more, where
        there is one: times the temperature, so that the product with a query's 1 is as one of vectors.

        Args:
            vectors: as they are scored otherwise.
            ranks: which items these are; None: all.
        """
        if self.item_bias is None:
            return vectors
        bias = self.item_bias[:, None]
        bias = bias if ranks is None else F.embedding(ranks, bias)
        return torch.cat([vectors, self.temperature * bias], -1)

    @property
    def query_dim(self) -> int:
        """Width of queries, and of the vectors of items that they are multiplied with."""
        return self.embedding.dim + (self.item_bias is not None)

    def extra_mass(
        self, outputs: torch.Tensor, batch: PackedBatch, within: Within | None = None
    ) -> ExtraMass | None:
        """What competes in the softmax of each event besides items by their vectors, [events] each; None:
        nothing.

        Args:
            outputs: [events, dim], of all events of the batch.
            batch: on the model's device.
            within: which items compete; None: all.
        """
        masses = []
        if self.history is not None:
            items = self._items_of_history(batch)
            masses.append(ExtraMass(*self.history(outputs, batch, items, within)))
        others = [part for part in self._competing[1:] if part is not None]
        masses += [ExtraMass(*part(outputs, batch, within)) for part in others]
        return reduce(ExtraMass.plus, masses) if masses else None

    def trend_mass(self, outputs: torch.Tensor, batch: PackedBatch) -> TrendMass | None:
        """What is popular at the moment, at ranking time, for the query after each sequence's last event.

        A sequence without events has none: when it asks is not known.

        Args:
            outputs: [events, dim], of all events of the batch.
            batch: on the model's device.
        """
        if self.trends is None:
            return None
        there, last = batch.lengths > 0, (batch.offsets[1:] - 1).clamp(min=0)
        if not len(outputs):
            return None
        weight = self.trends.weights(outputs, batch)[last].masked_fill(~there[:, None], NOTHING)
        return TrendMass(self.trends.shares, batch.query_time[last], weight)

    def jump_mass(self, outputs: torch.Tensor, batch: PackedBatch) -> JumpMass | None:
        """What votes by tables without the asking user's own pairs give to items, likewise; None: there are
        none.

        Args:
            outputs, batch: as of `trend_mass`.
        """
        if not isinstance(self.jumps, ExactJumpLogits) or not len(outputs):
            return None
        return self.jumps.mass(outputs, batch)

    def sparse_mass(
        self, outputs: torch.Tensor, batch: PackedBatch, items: torch.Tensor, lengths: Sequence[int]
    ) -> SparseMass | None:
        """The same at ranking time, for the query after the last event of each sequence, of single items.

        Args:
            outputs: [events, dim], of all events of the batch.
            batch: on the model's device.
            items: [events] its item ids, on the host.
            lengths: of its sequences.
        """
        found: list[tuple[Int64Array, Int64Array, torch.Tensor]] = []
        if self.history is not None:
            ranks = items.numpy() - self.first_item
            known = np.flatnonzero(ranks >= 0)
            rows = np.repeat(np.arange(len(lengths)), lengths)
            logits = self.history.last_logits(outputs, batch, self._items_of_history(batch))
            found.append((rows[known], ranks[known], logits[to_device(known, outputs.device)]))
        if isinstance(self.jumps, JumpLogits) and self.jump_share is None:
            votes = self.jumps.votes(outputs, batch, items.numpy(), lengths)
            mass = votes.mass[to_device(votes.place, outputs.device)]
            found.append((votes.row, votes.item, mass))
        if not found:
            return None
        all_rows, all_items, masses = zip(*found, strict=True)
        return SparseMass.summed(np.concatenate(all_rows), np.concatenate(all_items), torch.cat(masses))

    def vote_shares(
        self, outputs: torch.Tensor, batch: PackedBatch, items: torch.Tensor, lengths: Sequence[int]
    ) -> SparseMass | None:
        """The logarithms of the shares of all votes that items have, where they are mixed with the rest by a
        fixed share; None: they are not.

        Args:
            outputs, batch, items, lengths: as of `sparse_mass`.
        """
        if not isinstance(self.jumps, JumpLogits) or self.jump_share is None:
            return None
        votes = self.jumps.votes(outputs, batch, items.numpy(), lengths)
        row = to_device(votes.row, outputs.device)
        mass = votes.mass[to_device(votes.place, outputs.device)] - votes.total[row]
        return SparseMass.summed(votes.row, votes.item, mass)

    def item_vectors(
        self, ranks: torch.Tensor | None = None, looked_up: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Vectors of known items, float32.

        Args:
            ranks: item ids minus the first known one, of any shape; None for all known items that this
                process holds (`held_items`).
            looked_up: rows of the item table, where those of these ranks, [n], were looked up before.

        Returns:
            [*ranks.shape, query_dim], or [held_items.count, query_dim].
        """
        held = self.held_items
        if ranks is None:
            return self.biased(self._scorable(held.known(self.embedding.item_vectors())))
        if looked_up is None and ranks.numel() >= self.num_items and not held.is_divided:
            return F.embedding(ranks, self.item_vectors())
        vectors = self.embedding.item_vectors(ranks.flatten() + self.first_item, looked_up)
        return self.biased(self._scorable(vectors).view(*ranks.shape, vectors.shape[1]), ranks)

    def _items_of_history(self, batch: PackedBatch) -> torch.Tensor | None:
        has_keys = self.history is not None and self.history.item_keys
        return self.embedding.item_vectors(batch.item) if has_keys else None

    @property
    def _competing(
        self,
    ) -> tuple[HistoryLogits | None, JumpLogits | ExactJumpLogits | None, TrendLogits | None]:
        """What learns in one softmax with items by their vectors."""
        return self.history, None if self.jump_share is not None else self.jumps, self.trends

    @property
    def has_extra_mass(self) -> bool:
        """Whether anything competes with items by their vectors."""
        return any(part is not None for part in self._competing)

    @property
    def held_items(self) -> HeldItems:
        """Which known items this process holds."""
        table = self.embedding.item
        return HeldItems(table.processes, table.shards, self.first_item)

    def _scorable(self, vectors: torch.Tensor) -> torch.Tensor:
        return unit_rows(vectors) if self.normalize else vectors.float()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
