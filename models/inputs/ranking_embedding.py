"""The input of a backbone that ranks: items, the last one a candidate, and what was done with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.data.batch import PackedBatch
from models.data.columns import Column, Columns
from models.data.side import EventFeature
from models.inputs.embedding import InputEmbedding
from models.inputs.event_features import EventFeatures
from models.inputs.layouts.ranked import Actions, Ranked, first_events
from models.layers.initialization import INIT_STD, init_embedding, init_truncated
from models.layers.look_up import Embedding


class ValueEmbedding(nn.Module):
    """Embedding of a number without a scale of its own, such as a rating.

    A learned vector times `sign(v) log(1 + |v|)`, another where it is missing (NaN), and one for each bucket
    between edges.

    Args:
        edges: rising; a value is in the bucket of the number of edges that are not above it.
        dim: width.
    """

    edges: Tensor

    def __init__(self, edges: Sequence[float], dim: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.tensor(edges, dtype=torch.float32), persistent=False)
        self.linear = nn.Linear(2, dim, bias=False)
        init_truncated(self.linear.weight, INIT_STD)
        # Row 0 is that of missing values.
        self.buckets = Embedding(len(edges) + 2, dim, padding_idx=0)
        init_embedding(self.buckets.weight)

    def forward(self, values: Tensor) -> Tensor:
        """[events] numbers -> [events, dim]."""
        missing = values.isnan()
        known = values.masked_fill(missing, 0.0)
        bucket = (torch.bucketize(known, self.edges, right=True) + 1).masked_fill(missing, 0)
        told = torch.stack([known.sign() * known.abs().log1p(), missing.to(known.dtype)], dim=-1)
        return self.linear(told) + self.buckets(bucket)


class RankingEmbedding(InputEmbedding):
    """`InputEmbedding` for the tokens of `models.inputs.layouts.ranked.Ranked`.

    What is known of an item before anything is done with it is in its token: its vector and features, and
    those features of the event that are known beforehand. What is known only afterwards, its behavior, value
    and all other features of the event, is in the action, and in nothing before it.

    Args:
        actions: how actions stand in the sequence.
        item: column of the item of the event to predict.
        value: column of the values of events; None: they are not told.
        edges: of its buckets.
        known: features of the event to predict, columns of which are `target`s, that are known beforehand.
        known_own: the same columns of each event itself.
        given: what else `InputEmbedding` is made of; `side.events` are features of actions.
    """

    def __init__(
        self,
        *given: Any,
        actions: Actions,
        item: Column,
        value: Column | None = None,
        edges: Sequence[float] = (),
        known: Sequence[EventFeature] = (),
        known_own: Columns | None = None,
        **more: Any,
    ) -> None:
        layout = Ranked(actions, behaviors=more["num_behaviors"] > 1)
        super().__init__(*given, layout=layout, **more)
        self.actions = actions
        dim = self.item.embedding_dim
        self.item_column, self.value_column = item, value
        self.value = None if value is None else ValueEmbedding(edges, dim)
        self.known = EventFeatures(known, dim)
        self.known_own = known_own or Columns()

    def event_vectors(self, batch: PackedBatch) -> dict[str, Tensor]:
        """`item` and `action` of events, `first` of sequences; see `Ranked`."""
        events = batch.num_events
        ids = self.asked_ids(batch)
        items: Tensor = self.fusion(self.item(ids), self.features(ids), ids)
        for embed, target, own in zip(self.known, self.known.columns, self.known_own, strict=True):
            values = torch.cat([batch[target.name], first_events(batch, batch[own.name])])
            items = items + embed(values)
        return {"item": items[:events], "first": items[events:], "action": self.action(batch)}

    def action(self, batch: PackedBatch) -> Tensor:
        """[events, dim] what was done in each event."""
        parts = self.events(batch)
        if self.behavior is not None:
            # That of a sampled negative is below 0, and seen by nobody.
            parts.append(self.behavior(batch.behavior.clamp(min=0)))
        if self.value is not None and self.value_column is not None:
            parts.append(self.value(batch[self.value_column.name]))
        return torch.stack(parts).sum(0)

    def asked_ids(self, batch: PackedBatch) -> Tensor:
        """[events + sequences] the item after each event, and the first item of each sequence."""
        return torch.cat([batch[self.item_column.name], first_events(batch, batch.item)])

    @property
    def columns(self) -> Columns:
        """See `InputEmbedding.columns`."""
        own = [self.item_column, *([self.value_column] if self.value_column is not None else [])]
        return Columns.merged(super().columns, own, self.known.columns, self.known_own)
