"""Two tokens an event: what is done, then the item; so that the next event's behavior is a condition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors
from models.inputs.tokens import Tokens


@dataclass(frozen=True, eq=False)
class BehaviorFirstTokens(Tokens):
    """The layout's own notes."""

    own: Tensor = field(kw_only=True)
    """[events] the token of each event's item."""
    first: Tensor = field(kw_only=True)
    """[sequences] the first event of each; one past all events where it has none."""

    def behavior_queries(self, outputs: Tensor) -> Tensor:
        """[events, dim]: what its item's token says after each event, and that of its behavior."""
        return F.embedding(self.own, outputs) + F.embedding(self.own - 1, outputs)

    def column(self, first: Tensor, item: Tensor, question: Tensor) -> Tensor:
        """[tokens, ...] of what a sequence begins with, of items, and of what is asked after them.

        Args:
            first: [events, ...]; that of the first event of each sequence is taken.
            item: [events, ...].
            question: [events, ...].
        """
        out = item.new_zeros(self.sequences.num_tokens, *item.shape[1:])
        # Zeros for a sequence without events.
        begin = torch.cat([first, first.new_zeros(1, *first.shape[1:])]).index_select(0, self.first)
        assert self.asking is not None
        out = out.index_copy(0, self.own, item).index_copy(0, self.asking, question)
        return out.index_copy(0, self.sequences.offsets[:-1], begin)


class BehaviorFirst:
    """`behavior, item, behavior, item, ..., behavior wanted` (MBGen, arXiv 2405.16871).

    The probability of the next event is that of its behavior, times that of its item *given* the behavior.
    The token of the next event's behavior is the query for its item: in training it is the behavior that
    came, at inference the one that is asked for ("what would they buy?"). The item's token knows everything
    up to its event and not what is wanted; the next behavior is predicted there, and by the token of the
    event's behavior. Its output is added to that of the query, as in `models.inputs.layouts.interleaved`.

    A behavior's token happens, and asks, at the time of the query for its event: of time known that is the
    event's own, else that of the event before. The first token of a sequence is not asked for.

    Two users, six events; `?` marks the tokens that ask what comes next, the last one is what is wanted:

    >>> from models.inputs.layouts.picture import SIX_EVENTS, picture
    >>> print(picture(BehaviorFirst(), SIX_EVENTS))
    b1 i5 b1? i6 b2? i5 b1? i7 b3?
    b3 i6 b1? i9 b2?
    """

    columns = CORE.select("position", "timestamp", "query_time")
    vectors = frozenset({"behavior", "next_behavior"})

    def max_tokens(self, max_length: int) -> int:
        return 2 * max_length + 1

    def tokens(self, batch: PackedBatch) -> BehaviorFirstTokens:
        events, sequences = batch.num_events, self.sequences(batch.sequences)
        number = torch.arange(events, device=batch.offsets.device)
        # Beside two tokens an event there is one more for each sequence; past the last one, for all of them.
        own = 2 * number + 1 + torch.searchsorted(batch.offsets[1:], number, right=True)
        begin, end = batch.offsets[:-1], batch.offsets[1:]
        made = BehaviorFirstTokens(
            sequences=sequences,
            position=number,
            timestamp=number,
            query_time=number,
            mask=Causal(),
            asking=(own + 1).clamp(max=max(sequences.num_tokens - 1, 0)),
            beside=own,
            asking_behavior=own,
            items=own,
            own=own,
            first=torch.where(begin < end, begin, events),
        )
        place, time, asked = 2 * batch.position, batch.timestamp, batch.query_time
        return replace(
            made,
            position=made.column(place, place + 1, place + 2),
            timestamp=made.column(time, time, asked),
            query_time=made.column(time, asked, asked),
        )

    def sequences(self, events: Sequences) -> Sequences:
        """Each sequence with two tokens an event, and one more."""
        count = events.num_sequences
        offsets = 2 * events.offsets + torch.arange(count + 1, device=events.offsets.device)
        if events.room is None:
            return Sequences(offsets, tuple(2 * length + 1 for length in events.lengths))
        total, longest = 2 * events.num_tokens + count, self.max_tokens(events.max_length)
        return Sequences.unread(offsets, tokens=total, longest=longest)

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        assert isinstance(tokens, BehaviorFirstTokens)
        item = events["item"]
        # Features of items may be in half precision where tables are not.
        precise = torch.promote_types(item.dtype, events["behavior"].dtype)
        first, question = (events[name].to(precise) for name in ("behavior", "next_behavior"))
        return tokens.column(first, item.to(precise), question)
