"""How many tokens the events of a history are, by layout, and which of them are computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models.attention.masks import Mask
from models.attention.sequences import Sequences
from models.inputs.layout import Layout
from models.inputs.layouts.behavior_first import BehaviorFirst
from models.inputs.layouts.channels import Channels
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.layouts.interleaved import Interleaved
from models.inputs.layouts.ranked import Ranked
from models.inputs.layouts.user_context import WithUserContext
from models.inputs.tokens import Tokens
from models.serving.cache.ragged import Spread

Counts = TypeVar("Counts", Tensor, np.ndarray)


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of a sequence: some in front of its events, and as many of each event."""

    front: int
    """Of the sequence: context, and the behavior or the item of its first event."""
    each: int
    """Of an event."""
    asks_item: bool = False
    """Whether the last one of an event is the item that comes next, which is asked about: a candidate is
    another one in its place. Or else a candidate is an event that comes next."""
    scattered: bool = False
    """Whether a user's tokens are several sequences (`models.serving.cache.scattered`)."""

    @classmethod
    def of_layout(cls, layout: Layout) -> TokenCounts | None:
        """Of a layout; None where its tokens are not in this order."""
        if isinstance(layout, WithUserContext):
            inner = cls.of_layout(layout.inner)
            # Of several sequences, each would have its own tokens in front.
            if inner is None or inner.scattered:
                return None
            return replace(inner, front=inner.front + layout.context)
        if isinstance(layout, OneTokenPerEvent):
            return cls(0, 1)
        if isinstance(layout, Interleaved):
            return cls(0, 2)
        if isinstance(layout, Channels):
            return cls(0, 1, scattered=True)
        if isinstance(layout, Ranked):
            return cls(1, layout.each, asks_item=True)
        return cls(1, 2) if isinstance(layout, BehaviorFirst) else None

    @property
    def candidate(self) -> int:
        """Of a candidate."""
        return 1 if self.asks_item else self.each

    def of(self, events: Counts) -> Counts:
        """Tokens of so many events; none of no event."""
        return self.each * events + self.front * (events > 0)

    def parted(self, events: Tensor, candidates: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens of the histories of a pass, and those that stand in one place after them; None: there are
        none. What the newest event asks about is one of these.

        Args:
            events: [sequences] of histories.
            candidates: [sequences] after these; None: nobody has any.
        """
        history = self.of(events)
        if candidates is None:
            return history, None
        asked = (events > 0).to(history.dtype) if self.asks_item else torch.zeros_like(history)
        return history - asked, candidates * self.candidate + asked


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
    def of(
        cls,
        x: Tensor,
        layout: Tokens,
        new: Spread,
        skip: Tensor,
        sequences: Sequences,
        left_out: Tensor | None = None,
    ) -> Chosen:
        """Some of the tokens.

        Args:
            x: [tokens, dim] of the layout.
            layout: its tokens.
            new: those that are computed, of each sequence.
            skip: [sequences] how many of the layout's come before these.
            sequences: of those that are computed.
            left_out: [computed] how many of the layout's are left out between these and each; None: none.
        """
        count = x.shape[0]
        place = (layout.sequences.offsets[:-1] + skip)[new.row] + new.place
        if left_out is not None:
            place = place + left_out
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

    def with_candidates(self, counts: Tensor, each: int) -> Chosen:
        """The last tokens of each sequence are candidates.

        Args:
            counts: [sequences] how many tokens.
            each: of a candidate.
        """
        old = self.tokens.mask
        mask = Mask(old.window, old.prefix, old.context, counts, each)
        return replace(self, tokens=replace(self.tokens, mask=mask))
