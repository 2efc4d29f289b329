"""How many tokens the events of a history are, by layout, and which of them are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.inputs.layout import Layout
from models.inputs.layouts.behavior_first import BehaviorFirst
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.layouts.interleaved import Interleaved
from models.inputs.layouts.user_context import WithUserContext
from models.inputs.tokens import Tokens
from models.serving.cache.ragged import Spread

Counts = TypeVar("Counts", Tensor, np.ndarray)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a sequence: some in front of its events, and as many of each event."""

    front: int
    """Of the sequence: context, or the behavior of its first event."""
    each: int
    """Of an event."""
    users: bool = False
    """Whether those in front tell who the user is."""

    @classmethod
    def of_layout(cls, layout: Layout) -> TokenCounts | None:
        """Of a layout; None where its tokens are not in this order."""
        if isinstance(layout, WithUserContext):
            inner = cls.of_layout(layout.inner)
            return None if inner is None else cls(inner.front + layout.context, inner.each, users=True)
        if isinstance(layout, OneTokenPerEvent):
            return cls(0, 1)
        if isinstance(layout, Interleaved):
            return cls(0, 2)
        return cls(1, 2) if isinstance(layout, BehaviorFirst) else None

    def of(self, events: Counts) -> Counts:
        """Tokens of so many events; none of no event."""
        return self.each * events + self.front * (events > 0)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Tokens of a layout that are computed: all but those in front, where these are remembered."""

    x: Tensor
    """[chosen, dim]."""
    tokens: Tokens
    """Of these."""
    layout: Tokens
    """As the layout made them."""
    place: Tensor | None
    """[chosen] where each is among the layout's; one past all: nowhere. None: they are the same."""

    @classmethod
    def of(cls, x: Tensor, layout: Tokens, new: Spread, skip: Tensor, sequences: Sequences) -> Chosen:
        """Some of the tokens.

        Args:
            x: [tokens, dim] of the layout.
            layout: its tokens.
            new: those that are computed, of each sequence.
            skip: [sequences] how many of the layout's come before these.
            sequences: of those that are computed.
        """
        count = x.shape[0]
        place = (layout.sequences.offsets[:-1] + skip)[new.row] + new.place
        place = place.masked_fill(~new.inside, count)
        there = place.clamp(max=max(count - 1, 0))
        tokens = Tokens(
            sequences=sequences,
            position=layout.position[there],
            timestamp=layout.timestamp[there],
            query_time=layout.query_time[there],
            mask=layout.mask,
            attributes=tuple(each[there] for each in layout.attributes),
        )
        return cls(x[there], tokens, layout, place)

    @classmethod
    def all(cls, x: Tensor, layout: Tokens) -> Chosen:
        """All of them."""
        return cls(x, layout, layout, None)

    def after_events(self, outputs: Tensor) -> Tensor:
        """[events, dim] of [chosen, dim]: what is known after each event that is computed."""
        if self.place is None:
            return self.layout.queries(outputs)
        count = self.layout.position.shape[0]
        every = outputs.new_zeros(count + 1, outputs.shape[1]).index_copy_(0, self.place, outputs)
        return self.layout.queries(every[:count])

    def with_candidates(self, counts: Tensor) -> Chosen:
        """The last tokens of each sequence are candidates.

        Args:
            counts: [sequences] how many.
        """
        old = self.tokens.mask
        mask = Mask(old.window, old.prefix, old.context, counts)
        return replace(self, tokens=replace(self.tokens, mask=mask))
