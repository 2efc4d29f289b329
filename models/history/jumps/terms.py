"""The terms of jump logits: parameters, and the logit of each of the last events."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention.bias import NUM_BUCKETS, time_bucket
from models.data.batch import PackedBatch
from models.data.versions import RowMaps
from models.history.jumps.kinds import JumpTerm
from models.history.jumps.recent import Recent, recent_products
from models.history.jumps.select import select
from models.history.switches import switches
from models.layers.initialization import init_linear
from models.layers.roles import Role

BELOW = 1.5
"""How much lower than all candidates together the vote of the newest event starts."""
FADING = 0.3
"""How much lower the vote of each event starts than that of the one after it."""
NUM_COUNTS = 32
"""Buckets of how often an item occurs: one from each power of two to the next."""
_MOST_IDS = 1 << 31
"""A bound of item ids, whatever the data set."""


@dataclass(frozen=True, eq=False)
class VoteSizes:
    """What the terms of jump logits need to know besides their names."""

    width: int
    """Of the backbone's outputs."""
    dim: int
    """Of queries and keys."""
    events: int
    """How many of the last events vote."""
    level: float
    """Logarithm of the mass of all candidates; see `models.losses.level`."""
    num_behaviors: int
    """Ids 1 to num_behaviors."""
    first_item: int
    """The smallest id of a known item: unknown ones do not vote."""
    competes: bool = True
    """Whether votes compete with the scores of items, or with each other alone."""
    target_behaviors: Collection[int] = ()
    """Ids of the behaviors that are predicted and evaluated."""
    of_data: Collection[str] = ()
    """As of `models.history.terms.HistoryLogits`."""
    item_count: Tensor | None = None
    """[item ids] how often each item occurs in what is trained on; needed by the term `count`."""


class VoteTerms(nn.Module):
    """`u_j`, the logit of the vote of each of the last events.

    Args:
        terms: which there are; c is always there.
        sizes: of them.
    """

    parameter_roles = dict.fromkeys(
        ("constant", "behavior", "time", "recency", "gap", "latest", "closed", "frequency"), Role.LOGIT
    )
    constant: nn.Parameter | None
    behavior: nn.Parameter | None
    time: nn.Parameter | None
    recency: nn.Parameter | None
    gap: nn.Parameter | None
    latest: nn.Parameter | None
    closed: nn.Parameter | None
    frequency: nn.Parameter | None
    is_target: Tensor
    count_bucket: Tensor

    def __init__(self, terms: Collection[JumpTerm], sizes: VoteSizes) -> None:
        super().__init__()
        self.of_data = frozenset(sizes.of_data)
        self.events, self.behaviors, self.first_item = sizes.events, sizes.num_behaviors + 1, sizes.first_item
        self.query = self.key = None
        if "product" in terms:
            self.query = nn.Linear(sizes.width, sizes.dim)
            self.key = nn.Linear(sizes.width, sizes.dim, bias=sizes.competes)
            for layer in (self.query, self.key):
                init_linear(layer, None)
        self.scale = sizes.dim**-0.5
        constant = nn.Parameter(torch.tensor(sizes.level - BELOW)) if sizes.competes else None
        self.register_parameter("constant", constant)
        tables: dict[str, Tensor] = {
            "behavior": torch.zeros(self.behaviors**2),
            "time": torch.zeros(NUM_BUCKETS),
            "recency": -FADING * torch.arange(sizes.events),
            "gap": torch.zeros(NUM_BUCKETS),
            "latest": torch.zeros(self.behaviors**2),
            "closed": torch.zeros(self.behaviors**2),
        }
        for name, table in tables.items():
            self.register_parameter(name, nn.Parameter(table) if name in terms else None)
        counts = "count" in terms
        self.register_parameter("frequency", nn.Parameter(torch.zeros(NUM_COUNTS)) if counts else None)
        if counts:
            if sizes.item_count is None:
                raise ValueError("the term 'count' needs to know how often items occur")
            self.register_buffer("count_bucket", count_bucket(sizes.item_count), persistent=False)
        is_target = torch.zeros(self.behaviors, dtype=torch.bool)
        is_target[list(sizes.target_behaviors)] = True
        self.register_buffer("is_target", is_target, persistent=False)

    def logits(self, outputs: Tensor, batch: PackedBatch, recent: Recent) -> Tensor:
        """[queries, events] u_j, float32 at least.

        Args:
            outputs: [events, width], what the backbone knows after each event.
            batch: the events.
            recent: which events are asked about by which query.
        """
        query, event = recent.query, recent.event
        dtype = torch.promote_types(outputs.dtype, torch.float32)
        logits = (
            torch.zeros(event.shape, dtype=dtype, device=event.device)
            if self.constant is None
            else self.constant.expand(event.shape)
        )
        pair = batch.behavior[event] * self.behaviors + batch.target_behavior[query]
        if self.behavior is not None:
            logits = logits + select(self.behavior, pair)
        if self.time is not None:
            since = time_bucket(batch.query_time[query] - batch.timestamp[event])
            logits = logits + select(self.time, since)
        if self.recency is not None:
            logits = logits + self.recency
        if self.gap is not None:
            since = time_bucket(batch.query_time[query] - batch.timestamp[query])
            logits = logits + select(self.gap, since)
        if self.latest is not None or self.closed is not None:
            again, closed = self._switches(batch)
            if self.latest is not None:
                logits = logits + select(self.latest, pair) * (again[event] <= query)
            if self.closed is not None:
                logits = logits + select(self.closed, pair) * (closed[event] <= query)
        if self.frequency is not None:
            logits = logits + select(self.frequency, self.count_bucket[batch.item[event]])
        if self.query is not None and self.key is not None:
            outputs = outputs.to(self.query.weight.dtype)
            key = self.key(outputs)
            if recent.of_every:
                products = recent_products(self.query(outputs), key, self.events)
            else:
                products = (self.query(outputs[query]) * key[event]).sum(-1)  # [queries, events]
            logits = logits + products * self.scale
        return logits

    def numbers(self, batch: PackedBatch, recent: Recent) -> Tensor:
        """[queries, events] numbers of items, 0 for unknown ones."""
        return (batch.item[recent.event] - self.first_item).clamp(min=0)

    def known(self, batch: PackedBatch, recent: Recent) -> Tensor:
        """[queries, events] bool, whether an event has a known item."""
        return batch.item[recent.event] >= self.first_item

    @property
    def by_behavior(self) -> list[nn.Parameter]:
        """Tables with a row for each pair of a past and a wanted behavior, [(B + 1) ** 2], that there are."""
        return [table for table in (self.behavior, self.latest, self.closed) if table is not None]

    def grown_terms(self, maps: RowMaps) -> list[tuple[Tensor, Tensor]]:
        """Tables with a row a pair of behaviors, and their rows out of `maps`."""
        return [(table, maps.behavior_pairs) for table in self.by_behavior]

    def _switches(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        return switches(batch.item, self.is_target[batch.behavior], batch.sequences, _MOST_IDS)


def count_bucket(count: Tensor) -> Tensor:
    """[n] int64 floor of the binary logarithm of counts plus one, below `NUM_COUNTS`.

    >>> count_bucket(torch.tensor([0, 1, 2, 3, 6, 7])).tolist()
    [0, 1, 1, 2, 2, 3]

    Args:
        count: [n] whole numbers from 0.
    """
    bounds = 2 ** torch.arange(1, NUM_COUNTS, dtype=torch.int64, device=count.device)
    return torch.bucketize(count.to(torch.int64) + 1, bounds, right=True)
