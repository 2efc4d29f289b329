"""What every kernel of history masses is given, and the logit of a pair of events."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.bias import NUM_BUCKETS, time_bucket
from models.attention.sequences import Sequences
from models.history.recency import NUM_RECENCY, recency_bucket


@dataclass(frozen=True, eq=False)
class HistoryColumns:
    """What is known of each event; all [events], int64."""

    item: Tensor
    """Item id; 0 for an event that never has mass (an unknown item, padding)."""
    target: Tensor
    """Item id to predict after the event; 0: nothing is asked, and both masses are minus infinity."""
    behavior: Tensor
    """0 to B."""
    wanted: Tensor
    """Behavior of the event to predict, 0 to B."""
    timestamp: Tensor
    """Seconds."""
    query_time: Tensor
    """Seconds: the instant at which the event after this one is predicted."""
    again: Tensor | None = None
    """Index of the next event of the same item and sequence, or a number past all events where there is none.
    Needed with `HistoryBias.latest`."""
    closed: Tensor | None = None
    """Index of the first event of the same item and sequence that has a target behavior, before or after, or
    a number past all events where there is none. Needed with `HistoryBias.closed`."""


@dataclass(frozen=True, eq=False)
class HistoryBias:
    """The tables of the terms that are no product; None: the term is off. All float32, with gradients."""

    constant: Tensor
    """Scalar."""
    behavior: Tensor | None = None
    """[B + 1, B + 1]: behavior of the past event by behavior to predict."""
    time: Tensor | None = None
    """[129] over `models.attention.bias.time_bucket(query_time[i] - timestamp[j])`."""
    recency: Tensor | None = None
    """[64] over `models.history.recency.recency_bucket(i - j)`."""
    latest: Tensor | None = None
    """[B + 1, B + 1] like `behavior`, added where the item came again: `again[j] <= i`."""
    closed: Tensor | None = None
    """[B + 1, B + 1] like `behavior`, added where the item had a target behavior: `closed[j] <= i`."""

    @property
    def states(self) -> Tensor | None:
        """[4, B + 1, B + 1] differentiable: the tables `behavior`, `latest` and `closed` in one, or None.

        Entry `[2 * (closed[j] <= i) + (again[j] <= i), behavior[j], wanted[i]]` is the sum of the three.
        """
        tables = [self.behavior, self.latest, self.closed]
        known = [table for table in tables if table is not None]
        if not known:
            return None
        behavior, latest, closed = (torch.zeros_like(known[0]) if t is None else t for t in tables)
        return torch.stack([behavior, behavior + latest, behavior + closed, behavior + latest + closed])


@dataclass(frozen=True, eq=False)
class HistoryInputs:
    """The arguments of `models.history.dispatch.history_masses`, checked."""

    query: Tensor | None
    """[events, dim]; None: there is no product."""
    key: Tensor | None
    """[events, dim]."""
    bias: HistoryBias
    columns: HistoryColumns
    sequences: Sequences

    def __post_init__(self) -> None:
        columns, bias, events = self.columns, self.bias, self.sequences.num_tokens
        if (self.query is None) != (self.key is None):
            raise ValueError("a product needs queries and keys")
        for name, vectors in (("query", self.query), ("key", self.key)):
            if vectors is not None and (vectors.ndim != 2 or len(vectors) != events):
                raise ValueError(f"{name} has the shape {list(vectors.shape)}, for {events} events")
        for name in ("item", "target", "behavior", "wanted", "timestamp", "query_time"):
            if getattr(columns, name).shape != (events,):
                raise ValueError(f"{name} has the shape {list(getattr(columns, name).shape)}, not [{events}]")
        for table, size in ((bias.time, NUM_BUCKETS), (bias.recency, NUM_RECENCY)):
            if table is not None and table.shape != (size,):
                raise ValueError(f"a table of {size} buckets has the shape {list(table.shape)}")
        if bias.latest is not None and columns.again is None:
            raise ValueError("the term 'latest' needs the column 'again'")
        if bias.closed is not None and columns.closed is None:
            raise ValueError("the term 'closed' needs the column 'closed'")

    @property
    def device(self) -> torch.device:
        return self.columns.item.device

    @property
    def precision(self) -> torch.dtype:
        """Float32, or float64 where anything has it."""
        tensors = [self.query, self.key, self.bias.constant]
        has_double = any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors)
        return torch.float64 if has_double else torch.float32

    @property
    def unread(self) -> list[str]:
        """The reason against kernels that need to know lengths, where only the device knows them."""
        return [] if self.sequences.room is None else ["lengths are known to the device only"]


def pair_bias(bias: HistoryBias, columns: HistoryColumns, query: Tensor, key: Tensor) -> Tensor:
    """`w[b_j, wanted_i] + w_time[bucket(tq_i - t_j)] + w_recency[bucket(i - j)] + c`, and switched tables.

    Args:
        bias: the tables.
        columns: of all events.
        query: int64 indices i of events, of any shape.
        key: int64 indices j of events, broadcastable with `query`; pairs with j > i mean nothing.

    Returns:
        The broadcast shape, differentiable.
    """
    total = bias.constant
    states = bias.states
    if states is not None:
        state = torch.zeros((), dtype=torch.int64, device=query.device)
        if bias.latest is not None and columns.again is not None:
            state = state + (columns.again[key] <= query)
        if bias.closed is not None and columns.closed is not None:
            state = state + 2 * (columns.closed[key] <= query)
        total = total + states[state, columns.behavior[key], columns.wanted[query]]
    if bias.time is not None:
        total = total + bias.time[time_bucket(columns.query_time[query] - columns.timestamp[key])]
    if bias.recency is not None:
        total = total + bias.recency[recency_bucket((query - key).clamp(min=0))]
    return total.expand(torch.broadcast_shapes(query.shape, key.shape))
