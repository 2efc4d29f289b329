"""Inputs of history masses for tests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.history import HistoryBias, HistoryColumns, HistoryInputs

BEHAVIORS, ITEMS, DIM = 3, 5, 4
TABLES = ("behavior", "time", "recency", "latest", "closed")
ALL = ("product", *TABLES)


def problem(
    lengths: Sequence[int],
    terms: Sequence[str] = ALL,
    *,
    seed: int = 0,
    dim: int = DIM,
    dtype: torch.dtype = torch.float64,
    room: tuple[int, int, int] | None = None,
    items: int = ITEMS,
) -> HistoryInputs:
    """Random events of few items, some unknown, some without a target; everything has gradients.

    Args:
        lengths: of the sequences.
        terms: which are on.
        seed: of all that is random.
        dim: of queries and keys.
        dtype: of queries, keys and tables.
        room: events, sequences and the longest sequence, where lengths are to be known to the device only.
        items: item ids 1 to `items`; few of them repeat often.
    """
    random = torch.Generator().manual_seed(seed)
    events = sum(lengths) if room is None else room[0]
    known = Sequences.from_lengths(lengths)
    sequences = known
    if room is not None:
        offsets = torch.cat([known.offsets, known.offsets[-1:].expand(room[1] - len(lengths))])
        sequences = Sequences.unread(offsets, tokens=events, longest=room[2])

    def draw(most: int) -> Tensor:
        return torch.randint(most, (events,), generator=random)

    item, target = draw(items + 1), draw(items + 1)
    behavior, wanted = draw(BEHAVIORS) + 1, draw(BEHAVIORS) + 1
    timestamp = torch.cumsum(10 ** draw(7), 0)
    query_time = timestamp + 10 ** draw(7)
    again = closed = None
    if "latest" in terms or "closed" in terms:
        again, closed = switches(item, behavior, known.offsets.tolist(), events)

    def parameter(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype).requires_grad_()

    sizes = {"time": (129,), "recency": (64,)}
    tables = {name: parameter(*sizes.get(name, (BEHAVIORS + 1, BEHAVIORS + 1))) for name in TABLES}
    query, key, constant = parameter(events, dim), parameter(events, dim), parameter()
    has_product = "product" in terms
    return HistoryInputs(
        query if has_product else None,
        key if has_product else None,
        HistoryBias(constant, **{name: table for name, table in tables.items() if name in terms}),
        HistoryColumns(item, target, behavior, wanted, timestamp, query_time, again, closed),
        sequences,
    )


def switches(item: Tensor, behavior: Tensor, offsets: list[int], events: int) -> tuple[Tensor, Tensor]:
    """The columns `again` and `closed`, by loops; the last behavior is the target one."""
    again, closed = torch.full((2, events), events).unbind()
    items, behaviors = item.tolist(), behavior.tolist()
    for start, stop in pairwise(offsets):
        for j in range(start, stop):
            same = [k for k in range(start, stop) if items[k] == items[j]]
            again[j] = min([k for k in same if k > j], default=events)
            closed[j] = min([k for k in same if behaviors[k] == BEHAVIORS], default=events)
    return again, closed


def parameters(inputs: HistoryInputs) -> dict[str, Tensor]:
    """All that has gradients, by name."""
    bias = inputs.bias
    found = {"query": inputs.query, "key": inputs.key, "constant": bias.constant}
    found |= {name: getattr(bias, name) for name in TABLES}
    return {name: tensor for name, tensor in found.items() if tensor is not None}
