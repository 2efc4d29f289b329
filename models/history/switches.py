"""Since when each past event is outdated: its item came again, or has had a target behavior."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.sequences import Sequences


def switches(
    item: Tensor, is_target: Tensor, sequences: Sequences, num_item_ids: int
) -> tuple[Tensor, Tensor]:
    """`again` and `closed` of `models.history.inputs.HistoryColumns`.

    Sorts on the events' device, without waiting for it and in shapes that no lengths decide.

    Args:
        item: [events] int64 ids below `num_item_ids`.
        is_target: [events] bool, whether the event has a target behavior.
        sequences: where sequences start.
        num_item_ids: a bound of ids.
    """
    events = item.shape[0]
    event = torch.arange(events, device=item.device)
    never = torch.full_like(event, events)
    sequence = torch.searchsorted(sequences.offsets, event, right=True)
    key, order = (sequence * num_item_ids + item).sort(stable=True)
    follows = key[1:] == key[:-1]  # the same item and sequence as the one before
    again = never.scatter(0, order[:-1], torch.where(follows, order[1:], events))
    group = torch.cat([follows.new_zeros(min(events, 1)), ~follows]).cumsum(0)
    found = torch.where(is_target[order], order, events)
    first = never.scatter_reduce(0, group, found, "amin")
    return again, never.scatter(0, order, first[group])
