"""The last events before each query, as [queries, events] tensors of fixed shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.sequences import Sequences

_BLOCK = 64
"""Queries that are multiplied with keys at once: more waste products outside of the band."""


@dataclass(frozen=True, eq=False)
class Recent:
    """Which events some queries look back at: the event itself, then the one before it, and so on."""

    query: Tensor
    """[queries, 1] int64 event that each query comes after."""
    event: Tensor
    """[queries, events] int64 events, some other one where there is none."""
    present: Tensor
    """[queries, events] bool, whether there is one, in the same sequence."""
    of_every: bool
    """Whether query i comes after event i."""

    @classmethod
    def of_all(cls, sequences: Sequences, events: int) -> Recent:
        """Of a query after every event; those after the last sequence have none."""
        offsets = sequences.offsets
        query = torch.arange(sequences.num_tokens, device=offsets.device)[:, None]
        start = offsets[sequence_of(query, sequences)]
        return cls(query, *_back(query, start, query < offsets[-1], events), True)

    @classmethod
    def of_last(cls, sequences: Sequences, events: int) -> Recent:
        """Of a query after the last event of every sequence; empty ones have none."""
        start, query = sequences.offsets[:-1, None], sequences.offsets[1:, None] - 1
        event, present = _back(query, start, query >= start, events)
        return cls(query.clamp(min=0), event, present, False)


def _back(query: Tensor, start: Tensor, counts: Tensor, events: int) -> tuple[Tensor, Tensor]:
    event = query - torch.arange(events, device=query.device)
    return event.clamp(min=0), (event >= start) & counts


def sequence_of(event: Tensor, sequences: Sequences) -> Tensor:
    """The sequence of each event, the last one for events after it."""
    found = torch.searchsorted(sequences.offsets, event, right=True) - 1
    return found.clamp(max=max(sequences.num_sequences - 1, 0))


def recent_products(query: Tensor, key: Tensor, events: int) -> Tensor:
    """[n, events] `query[i] . key[i - lag]` for lags from 0; 0 where there is no such key.

    Blocks of queries are multiplied with all keys that any of them looks at, and the band is taken out:
    nothing of [n, events, dim] is made.

    Args:
        query, key: [n, dim].
        events: how many.
    """
    size = max(1, -(-len(query) // _BLOCK)) * _BLOCK
    reach = events - 1
    blocks = F.pad(query, (0, 0, 0, size - len(query))).view(-1, _BLOCK, query.shape[1])
    keys = F.pad(key, (0, 0, reach, size - len(key))).unfold(0, _BLOCK + reach, _BLOCK)  # [blocks, dim, keys]
    place = torch.arange(_BLOCK, device=query.device)[:, None] + reach
    band = (place - torch.arange(events, device=query.device)).expand(len(blocks), -1, -1)
    return (blocks @ keys).gather(2, band).flatten(0, 1)[: len(query)]
