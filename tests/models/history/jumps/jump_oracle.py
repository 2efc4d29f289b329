"""Jump logits in plain Python, float64, one pair of events after the other, from the formula."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TARGET = 2
"""The behavior that closes an item."""

Table = Mapping[tuple[int, int], float]
"""C by (item, follower), ids of items."""


@dataclass(frozen=True)
class Parameters:
    """As plain numbers; a table that is empty is a term that is off."""

    constant: float
    behavior: Sequence[Sequence[float]] = ()
    time: Sequence[float] = ()
    recency: Sequence[float] = ()
    gap: Sequence[float] = ()
    query: Sequence[Sequence[float]] = ()
    """[events][dim], after every event of the sequence."""
    key: Sequence[Sequence[float]] = field(default=())
    latest: Sequence[Sequence[float]] = ()
    closed: Sequence[Sequence[float]] = ()
    count: Sequence[float] = ()
    """By item id."""


@dataclass(frozen=True)
class Events:
    """One sequence."""

    item: Sequence[int]
    behavior: Sequence[int]
    wanted: Sequence[int]
    timestamp: Sequence[int]
    query_time: Sequence[int]


def bucket(seconds: int) -> int:
    return min(int(math.log(max(1, abs(seconds))) / 0.301), 128)


def logit(of: Parameters, events: Events, query: int, past: int) -> float:
    total = of.constant
    if of.behavior:
        total += of.behavior[events.behavior[past]][events.wanted[query]]
    if of.time:
        total += of.time[bucket(events.query_time[query] - events.timestamp[past])]
    if of.recency:
        total += of.recency[query - past]
    if of.gap:
        total += of.gap[bucket(events.query_time[query] - events.timestamp[query])]
    since = range(past + 1, query + 1)
    pair = events.behavior[past], events.wanted[query]
    if of.latest and any(events.item[other] == events.item[past] for other in since):
        total += of.latest[pair[0]][pair[1]]
    same = [other for other in range(query + 1) if events.item[other] == events.item[past]]
    if of.closed and any(events.behavior[other] == TARGET for other in same):
        total += of.closed[pair[0]][pair[1]]
    if of.count:
        total += of.count[events.item[past]]
    if of.query:
        pairs = zip(of.query[query], of.key[past], strict=True)
        total += sum(q * k for q, k in pairs) / math.sqrt(len(of.key[past]))
    return total


def votes_by_hand(
    of: Parameters, events: Events, query: int, most: int, table: Table, first_item: int
) -> dict[int, float]:
    """Unnormalized probability by item id, of the query after an event."""
    found: dict[int, float] = {}
    for past in range(max(0, query - most + 1), query + 1):
        if events.item[past] < first_item:
            continue
        for (item, follower), share in table.items():
            if item == events.item[past]:
                found[follower] = found.get(follower, 0.0) + math.exp(logit(of, events, query, past)) * share
    return found
