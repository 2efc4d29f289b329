"""Items that are asked about, and actions that answer: the tokens of ranking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention.masks import Causal
from models.attention.sequences import Sequences
from models.data.batch import PackedBatch
from models.data.declared import CORE
from models.inputs.layout import EventVectors
from models.inputs.tokens import Tokens

Actions = Literal["interleaved", "joined", "added"]
"""How an action stands in the sequence: see `Ranked`."""


@dataclass(frozen=True, eq=False)
class RankedTokens(Tokens):
    """The layout's own notes."""

    starts: Tensor = field(kw_only=True)
    """[sequences] the first token of each: its first item."""
    own: Tensor = field(kw_only=True)
    """[events] the token of each event's item; its action follows, unless it is added to the next."""

    def queries(self, outputs: Tensor) -> Tensor:
        """[events + sequences, dim]: at the item after each event, and at the first of each sequence."""
        assert self.asking is not None
        return F.embedding(torch.cat([self.asking, self.starts]), outputs)

    def behavior_queries(self, outputs: Tensor) -> Tensor:
        """[events, dim]: at the action of each event, where it has a token of its own."""
        return F.embedding(self.own + 1, outputs)

    def column(self, first: Tensor, asked: Tensor) -> Tensor:
        """[tokens, ...] of what is told of items; zeros where an action stands.

        Args:
            first: [sequences, ...] of the first item of each.
            asked: [events, ...] of the item after each event.
        """
        assert self.asking is not None
        out = asked.new_zeros(self.sequences.num_tokens, *asked.shape[1:])
        return out.index_copy(0, self.starts, first).index_copy(0, self.asking, asked)


class Ranked:
    """`item, action, item, action, ..., item` (HSTU, arXiv 2402.17152, section 2.2: ranking).

    Every item's token is asked about its own action, which stands behind it and is not seen there; the last
    item is the one after the events, the candidate. So every position of a sequence is trained at once, and a
    candidate's logits are those that the same item has in training.

    - `interleaved`: two tokens an event.
    - `joined`: the action's token has the item's vector, too: what was done with which item is known to one
      token, without attention.
    - `added`: one token an event. The action is added to the *next* item: an item's own is never in its token
      (ULTRA-HSTU, arXiv 2602.16986, adds it to the item's own, which can then not be trained on).

    Items happen, and ask, at the time of the query for them: of time known that is the event's own, else that
    of the event before. Actions happen at the time of their event.

    Events need three kinds of vectors: `item`, of the item *after* each event; `first`, [sequences, dim], of
    the first item of each sequence; and `action`, of each event.

    Args:
        actions: which of these.
        behaviors: whether the behavior of an event is a part of its action.
    """

    columns = CORE.select("position", "timestamp", "query_time")

    def __init__(self, actions: Actions = "interleaved", *, behaviors: bool = False) -> None:
        self.actions = actions
        self.vectors = frozenset({"behavior"} if behaviors else ())
        self.each = 1 if actions == "added" else 2
        """Tokens of an event."""

    def max_tokens(self, max_length: int) -> int:
        return self.each * max_length + 1

    def tokens(self, batch: PackedBatch) -> RankedTokens:
        each, sequences = self.each, self.sequences(batch.sequences)
        number = torch.arange(batch.num_events, device=batch.offsets.device)
        # Beside those of events there is one more for each sequence; past the last one, for all of them.
        row = torch.searchsorted(batch.offsets[1:], number, right=True)
        own = each * number + row
        made = RankedTokens(
            sequences=sequences,
            position=number,
            timestamp=number,
            query_time=number,
            mask=Causal(),
            asking=(own + each).clamp(max=max(sequences.num_tokens - 1, 0)),
            starts=sequences.offsets[:-1],
            own=own,
        )
        first = first_events(batch, batch.timestamp)
        asked = made.column(first, batch.query_time)
        position = made.column(torch.zeros_like(first), each * (batch.position + 1))
        timestamp = asked
        if each == 2:
            position = position.index_copy(0, own + 1, 2 * batch.position + 1)
            timestamp = timestamp.index_copy(0, own + 1, batch.timestamp)
        return replace(made, position=position, timestamp=timestamp, query_time=timestamp)

    def sequences(self, events: Sequences) -> Sequences:
        """Each sequence with so many tokens an event, and one more."""
        count = events.num_sequences
        offsets = self.each * events.offsets + torch.arange(count + 1, device=events.offsets.device)
        if events.room is None:
            return Sequences(offsets, tuple(self.each * length + 1 for length in events.lengths))
        total = self.each * events.num_tokens + count
        return Sequences.unread(offsets, tokens=total, longest=self.max_tokens(events.max_length))

    def arrange(self, events: EventVectors, tokens: Tokens, batch: PackedBatch) -> Tensor:
        assert isinstance(tokens, RankedTokens)
        item, action = events["item"], events["action"]
        # Features of items may be in half precision where tables are not.
        precise = torch.promote_types(item.dtype, action.dtype)
        item, first, action = item.to(precise), events["first"].to(precise), action.to(precise)
        if self.actions == "added":
            return tokens.column(first, item + action)
        x = tokens.column(first, item)
        if self.actions == "joined":
            action = action + F.embedding(tokens.own, x)
        return x.index_copy(0, tokens.own + 1, action)


def first_events(batch: PackedBatch, values: Tensor) -> Tensor:
    """[sequences, ...] of [events, ...]: of the first event of each; zeros of a sequence without events."""
    begin, end = batch.offsets[:-1], batch.offsets[1:]
    padded = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
    return padded.index_select(0, torch.where(begin < end, begin, len(values)))
