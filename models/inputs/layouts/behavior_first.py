"""Two tokens an event: what is done, then the item; so that the next event's behavior is a condition."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors
from models.inputs.tokens import Tokens


@dataclass(frozen=True, eq=False)
class BehaviorFirstTokens(Tokens):
    """The layout's own notes."""

    before: Tensor = field(kw_only=True)
    """[events] the token of each event's own behavior."""
    last: Tensor = field(kw_only=True)
    """[sequences] the last event of each; one past all events where it has none."""


class BehaviorFirst:
    """`behavior, item, behavior, item, ..., behavior wanted` (MBGen, arXiv 2405.16871).

    The probability of the next event is that of its behavior, times that of its item *given* the behavior.
    The token of the next event's behavior is the query for its item: in training it is the behavior that
    came, at inference the one that is asked for ("what would they buy?"). The item's token knows everything
    up to its event and not what is wanted; the next behavior is predicted there.

    A behavior's token happens, and asks, at the time of the query for its event: of time known that is the
    event's own, else that of the event before.

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
        # The sequence of each event; past the last one, the number of sequences.
        row = torch.searchsorted(batch.offsets[1:], number, right=True)
        before = 2 * number + row
        begin, end = batch.offsets[:-1], batch.offsets[1:]
        last = torch.where(begin < end, end - 1, events)
        asked = batch.query_time
        # When the event before asked for this one; the first one of a sequence nobody asked for.
        since = torch.where(batch.position > 0, asked.roll(1), batch.timestamp)
        at_end = _with_zero(asked)[last]
        return BehaviorFirstTokens(
            sequences=sequences,
            position=_interleave(
                before, 2 * batch.position, 2 * batch.position + 1, sequences, 2 * batch.lengths
            ),
            timestamp=_interleave(before, since, batch.timestamp, sequences, at_end),
            query_time=_interleave(before, since, asked, sequences, at_end),
            mask=Causal(),
            asking=(before + 2).clamp(max=sequences.num_tokens - 1),
            asking_behavior=before + 1,
            before=before,
            last=last,
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
        wanted = _with_zero(events["next_behavior"])[tokens.last]
        return _interleave(tokens.before, events["behavior"], events["item"], tokens.sequences, wanted)


def _interleave(before: Tensor, behavior: Tensor, item: Tensor, sequences: Sequences, last: Tensor) -> Tensor:
    """[tokens, ...] out of the values of behaviors and items, [events, ...], and of last tokens."""
    out = item.new_zeros(sequences.num_tokens, *item.shape[1:])
    ends = sequences.offsets[1:] - 1
    out = out.index_copy(0, before, behavior).index_copy(0, before + 1, item)
    return out.index_copy(0, ends, last)


def _with_zero(values: Tensor) -> Tensor:
    """One row of zeros more, for sequences that have no event."""
    return torch.cat([values, values.new_zeros(1, *values.shape[1:])])
