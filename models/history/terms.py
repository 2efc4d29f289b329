"""The parameters of history logits, and what they make of a batch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.bias import NUM_BUCKETS
from models.data.batch import PackedBatch
from models.history.dispatch import history_masses
from models.history.inputs import HistoryBias, HistoryColumns
from models.history.kinds import HistoryTerm
from models.history.ranking import event_logits
from models.history.recency import NUM_RECENCY
from models.history.switches import switches
from models.history.within import Within
from models.layers.initialization import init_linear
from models.layers.roles import Role

FADING = 0.1
"""How much lower each bucket of events since starts than the one before, if nothing else is asked for."""


class HistoryLogits(nn.Module):
    """Logits of past events, which compete with the scores of all items in one softmax.

    With s_i the score of item i (divided by the temperature) and g_j the logit of past event j,
    `p(i) = (exp s_i + sum over j with item_j = i of exp g_j) / (sum_i exp s_i + sum_j exp g_j)`, where
    `g_j = q . k_j + w[behavior_j, wanted behavior] + w_time[bucket(t_query - t_j)] + w_recency[events since]
    + c` (CopyNet, arXiv 1603.06393; RepeatNet, arXiv 1812.02646; the bias terms are ours). q and k_j are
    linear maps, with biases, of the backbone's outputs after the last and after the past event (or of the
    vector of its item), which are first divided by their root mean square, so that their scale says nothing;
    `q . k_j` is divided by the square root of the width of both. A logit is not divided by the temperature.

    All start at zero but the map of keys (Xavier), recency, which falls by `fading` a bucket, and c, at
    `level`: the newest event then weighs as much as all candidates of score 0 together. Adam moves c by no
    more than the learning rate in a step, and from far below it would arrive when items are learned by heart.
    The term `item` adds a number of the past event's item, as a column of its key.

    Args:
        terms: which there are; c is always there.
        width: of the backbone's outputs.
        dim: of queries and keys.
        level: logarithm of the mass of all candidates of score 0; see `models.losses.level`.
        num_behaviors: ids 1 to num_behaviors.
        target_behaviors: ids of those that are predicted and evaluated.
        first_item: the smallest id of a known item: unknown ones never have mass.
        num_item_ids: all ids are below.
        item_keys: keys are maps of the vectors of items, instead of outputs.
        fading: how much lower each bucket of events since starts than the one before.
        of_data: those of the tables that are there or not by what the data set has something for, as no
            setting names terms; see `models.runs.of_data.fitted`.
    """

    parameter_roles = {
        **dict.fromkeys(("constant", "behavior", "time", "recency", "latest", "closed"), Role.LOGIT),
        "item": Role.EMBEDDING,
    }
    is_target: Tensor
    behavior: nn.Parameter | None
    time: nn.Parameter | None
    recency: nn.Parameter | None
    latest: nn.Parameter | None
    closed: nn.Parameter | None
    item: nn.Parameter | None

    def __init__(
        self,
        terms: Collection[HistoryTerm],
        *,
        width: int,
        dim: int,
        level: float,
        num_behaviors: int,
        target_behaviors: Collection[int],
        first_item: int,
        num_item_ids: int,
        item_keys: bool = False,
        fading: float = FADING,
        of_data: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.of_data = frozenset(of_data)
        self.behaviors, self.first_item, self.num_item_ids = num_behaviors + 1, first_item, num_item_ids
        self.query = self.key = None
        if "product" in terms:
            # The number of an item is one more column of keys, of which there are `dim` in all.
            columns = max(1, dim - 1) if "item" in terms else dim
            self.query, self.key = nn.Linear(width, columns), nn.Linear(width, columns)
            init_linear(self.key, None)
            for parameter in self.query.parameters():
                nn.init.zeros_(parameter)
        self.scale = dim**-0.5
        self.item_keys = item_keys and self.key is not None
        self.constant = nn.Parameter(torch.tensor(level))
        sizes = dict.fromkeys(("behavior", "latest", "closed"), self.behaviors**2)
        sizes |= {"time": NUM_BUCKETS, "recency": NUM_RECENCY, "item": num_item_ids}
        for name, size in sizes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(size)) if name in terms else None)
        if self.recency is not None:
            with torch.no_grad():
                self.recency.copy_(-fading * torch.arange(NUM_RECENCY))
        is_target = torch.zeros(self.behaviors, dtype=torch.bool)
        is_target[list(target_behaviors)] = True
        self.register_buffer("is_target", is_target, persistent=False)

    def forward(
        self,
        outputs: Tensor,
        batch: PackedBatch,
        items: Tensor | None = None,
        within: Within | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[events] each: the logarithms of the mass on the target and on the rest, of every event's query.

        Args:
            outputs: [events, width], what the backbone knows after each event.
            batch: the events.
            items: [events, width] vectors of their items, where `item_keys`.
            within: which items compete; None: all.
        """
        vectors, columns = self._vectors(outputs, batch, items), self.columns(batch)
        if within is None:
            return history_masses(*vectors, self.bias, columns, batch.sequences)
        masses: tuple[Tensor, Tensor] | None = None
        for of_domain, asks in within.parts((batch.item - self.first_item).clamp(min=0)):
            part = replace(
                columns,
                item=columns.item.masked_fill(~of_domain, 0),
                target=columns.target.masked_fill(~asks, 0),
            )
            found = history_masses(*vectors, self.bias, part, batch.sequences)
            masses = (
                found
                if masses is None
                else (torch.where(asks, found[0], masses[0]), torch.where(asks, found[1], masses[1]))
            )
        assert masses is not None
        return masses

    def last_logits(self, outputs: Tensor, batch: PackedBatch, items: Tensor | None = None) -> Tensor:
        """[events] float32 logit of each event for the query after the last event of its sequence.

        Those of unknown items mean nothing.
        """
        vectors = self._vectors(outputs, batch, items)
        return event_logits(*vectors, self.bias, self.columns(batch), batch.sequences)

    def _vectors(
        self, outputs: Tensor, batch: PackedBatch, items: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """[events, dim] each: what the product is of; with items' numbers as a column, and ones beside."""
        query = key = None
        if self.query is not None and self.key is not None:
            outputs = F.rms_norm(outputs, outputs.shape[-1:])
            known = outputs if items is None else F.rms_norm(items, items.shape[-1:])
            query, key = self.query(outputs) * self.scale, self.key(known)
        if self.item is None:
            return query, key
        number = F.embedding(batch.item, self.item[:, None])
        if query is None or key is None:
            return torch.ones_like(number), number
        ones = torch.ones_like(query[:, :1])
        return torch.cat([query, ones], 1), torch.cat([key, number.to(key.dtype)], 1)

    @property
    def by_behavior(self) -> list[nn.Parameter]:
        """Tables with a row for each pair of a past and a wanted behavior, [(B + 1) ** 2], that there are."""
        return [table for table in (self.behavior, self.latest, self.closed) if table is not None]

    @property
    def bias(self) -> HistoryBias:
        """All terms but the product."""
        behavior, latest, closed = (
            None if table is None else table.view(self.behaviors, -1)
            for table in (self.behavior, self.latest, self.closed)
        )
        return HistoryBias(self.constant, behavior, self.time, self.recency, latest, closed)

    def columns(self, batch: PackedBatch) -> HistoryColumns:
        """What the terms read of a batch."""
        again = closed = None
        if self.latest is not None or self.closed is not None:
            targets = self.is_target[batch.behavior]
            again, closed = switches(batch.item, targets, batch.sequences, self.num_item_ids)
        return HistoryColumns(
            item=batch.item.masked_fill(batch.item < self.first_item, 0),
            target=batch.target,
            behavior=batch.behavior,
            wanted=batch.target_behavior,
            timestamp=batch.timestamp,
            query_time=batch.query_time,
            again=again,
            closed=closed,
        )
