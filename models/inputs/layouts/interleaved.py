"""Two tokens an event: the item, then what was done with it."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors
from models.inputs.tokens import Tokens


class Interleaved:
    """`item, behavior, item, behavior, ...` (HSTU, arXiv 2402.17152, section 2: items and actions alternate).

    The behavior's token is the query for the next event, and the output of its item's token is added to that:
    the item's own vector reaches the query by a sum, as it does by the residual connection where an event is
    one token, and need not be found by attention first. An item's token does not know the behavior of its own
    event. Both happen when the event does; the behavior's token asks at the time of the query.

    Two users, six events; `?` marks the tokens that ask what comes next:

    >>> from models.inputs.layouts.picture import SIX_EVENTS, picture
    >>> print(picture(Interleaved(), SIX_EVENTS))
    i5 b1? i6 b1? i5 b2? i7 b1?
    i6 b3? i9 b1?

    With `embedding.query_behavior: add` the wanted behavior (`w`) is added to the token that asks:

    >>> print(picture(Interleaved(), SIX_EVENTS, "query_behavior"))
    i5 b1+w1? i6 b1+w2? i5 b2+w1? i7 b1+w3?
    i6 b3+w1? i9 b1+w2?
    """

    columns = CORE.select("position", "timestamp", "query_time")
    vectors = frozenset({"behavior"})

    def max_tokens(self, max_length: int) -> int:
        return 2 * max_length

    def tokens(self, batch: PackedBatch) -> Tokens:
        number = torch.arange(batch.num_events, device=batch.position.device)
        return Tokens(
            sequences=_twice(batch.sequences),
            position=torch.stack([2 * batch.position, 2 * batch.position + 1], 1).flatten(),
            timestamp=batch.timestamp.repeat_interleave(2),
            query_time=torch.stack([batch.timestamp, batch.query_time], 1).flatten(),
            mask=Causal(),
            asking=2 * number + 1,
            beside=2 * number,
            items=2 * number,
        )

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        behavior = events["behavior"]
        if "query_behavior" in events:
            behavior = behavior + events["query_behavior"]
        return torch.stack([events["item"], behavior], 1).flatten(0, 1)


def _twice(events: Sequences) -> Sequences:
    if events.room is None:
        return Sequences(2 * events.offsets, tuple(2 * length for length in events.lengths))
    # In a CUDA graph only the device knows lengths.
    return Sequences.unread(2 * events.offsets, tokens=2 * events.num_tokens, longest=2 * events.max_length)
