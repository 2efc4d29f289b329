"""What one pass of a cache computes, told on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.serving.cache.parcel import Field, Parcel
from models.serving.cache.ragged import Ints
from models.serving.cache.tokens import TokenCounts

_PARTS = 8
"""Sizes between a power of two and the next."""


class Numbers(NamedTuple):
    """Of each user, [users] int64; on the host or on the device."""

    base: Tensor
    """Events of the window whose keys and values stay."""
    first: Tensor
    """Place in the former window of the first remembered event that is computed (again)."""
    remembered: Tensor
    """Events of the former window that are computed (again)."""
    given: Tensor
    """Events that are given, after these."""
    begin: Tensor
    """Where these begin among all that are given."""
    candidates: Tensor
    """Candidates after all events; each sees them, and itself."""


class Lengths(NamedTuple):
    """Of each sequence, where the host knows them."""

    events: tuple[int, ...]
    """That are computed, with candidates."""
    fresh: tuple[int, ...]
    """Tokens that are computed."""
    all: tuple[int, ...]
    """Tokens."""


@dataclass(frozen=True)
class Shape:
    """Sizes of tensors of one pass; all calls of a shape could be one CUDA graph."""

    kept: bool
    columns: bool
    answered: tuple[str, ...]
    asked: tuple[str, ...]
    """As of `Call`, and what an answer and a question say."""
    users: int
    events: int
    """That are computed, of all users."""
    given: int
    """Events of the call, some of which may not be computed."""
    candidates: int
    most_events: int
    """Of a user."""
    fresh: int
    """Tokens that are computed."""
    most_fresh: int
    """Of a user."""
    tokens: int
    """Tokens, with those that are remembered."""
    longest: int
    """Of a user."""
    most_candidates: int
    """Of a user."""
    told: tuple[str, ...] = ()
    """What is known of candidates."""

    def rounded(self, tokens: TokenCounts, limit: int) -> Shape:
        """The smallest of few shapes that holds it.

        Args:
            tokens: of events.
            limit: most tokens of a history.
        """
        users, events, most = (round_up(n) for n in (self.users, self.events, self.most_events))
        candidates = round_up(self.most_candidates)
        return replace(
            self,
            users=users,
            events=events,
            given=round_up(self.given),
            candidates=round_up(self.candidates),
            most_events=most,
            fresh=tokens.each * events + tokens.front * users,
            most_fresh=tokens.each * most + tokens.front,
            tokens=round_up(self.tokens),
            longest=min(round_up(self.longest), limit + tokens.candidate * candidates),
            most_candidates=candidates,
        )


def round_up(count: int) -> int:
    """The next of few sizes: up to 8 all, then eight between powers of two.

    >>> [round_up(count) for count in (0, 3, 9, 17, 33, 4097)]
    [0, 3, 9, 18, 36, 4608]
    """
    unit = max((1 << max(count - 1, 0).bit_length() >> 1) // _PARTS, 1)
    return -(-count // unit) * unit


@dataclass(frozen=True, eq=False)
class Call:
    """What one pass computes, for all users of a call."""

    numbers: Ints
    """[6, users] rows of `Numbers`."""
    table: npt.NDArray[np.int32]
    """[users, most] pages."""
    sequence: Ints
    """[users] row number of each in the data set; -1 where it is not in it."""
    tokens: TokenCounts
    """Of events."""
    answer: Mapping[str, Tensor]
    """[users] what the newest event so far of each is told of the one after it, where that is given; by names
    in the sequence files."""
    question: Mapping[str, Ints]
    """[users] int64 what the newest event of all is asked, where that is not as the batch said in which it
    came."""
    given: Mapping[str, Tensor]
    """[given] columns of events of the call."""
    candidates: Mapping[str, Tensor] = field(default_factory=dict)
    """[candidates] each: what is known of candidates, their `item` at least; by names in the sequence files.
    Empty: there are none."""
    kept: bool = False
    """Whether events are written to the pages; candidates never are."""
    columns: bool = False
    """Whether the columns of the newest events are asked for, too."""

    @cached_property
    def lengths(self) -> Lengths:
        base, _, remembered, given, _, candidates = self.numbers
        events = remembered + given
        whole = self.tokens.of(base + events) + self.tokens.candidate * candidates
        counts = (events + candidates, whole - self.tokens.of(base), whole)
        return Lengths(*(tuple(each.tolist()) for each in counts))

    @cached_property
    def shape(self) -> Shape:
        """As it is."""
        events, fresh, every = self.lengths
        return Shape(
            kept=self.kept,
            columns=self.columns,
            answered=tuple(self.answer),
            asked=tuple(self.question),
            users=len(events),
            events=sum(events),
            given=max((len(values) for values in self.given.values()), default=0),
            candidates=len(self.candidates["item"]) if self.candidates else 0,
            most_events=max(events, default=0),
            fresh=sum(fresh),
            most_fresh=max(fresh, default=0),
            tokens=sum(every),
            longest=max(every, default=0),
            most_candidates=int(self.numbers[-1].max(initial=0)),
            told=tuple(self.candidates),
        )

    @property
    def arrays(self) -> dict[str, Tensor | npt.NDArray]:
        """All that the device has to be told, by the names that `parcel` gives."""
        return {
            "numbers": self.numbers,
            "table": self.table,
            "sequence": self.sequence + 1,  # more room than users holds zeros, and they are nobody
            **{f"answer.{name}": values for name, values in self.answer.items()},
            **{f"question.{name}": values for name, values in self.question.items()},
            **{f"given.{name}": values for name, values in self.given.items()},
            **{f"candidate.{name}": values for name, values in self.candidates.items()},
        }

    def parcel(self, shape: Shape) -> Parcel:
        """Room for the arrays of calls of a shape."""
        int64, users = torch.int64, shape.users
        return Parcel(
            {
                "numbers": Field(int64, (len(Numbers._fields), users)),
                "table": Field(torch.int32, (users, self.table.shape[1])),
                "sequence": Field(int64, (users,)),
                **{f"answer.{name}": Field(values.dtype, (users,)) for name, values in self.answer.items()},
                **{f"question.{name}": Field(int64, (users,)) for name in self.question},
                **{
                    f"given.{name}": Field(values.dtype, (shape.given,))
                    for name, values in self.given.items()
                },
                **{
                    f"candidate.{name}": Field(values.dtype, (shape.candidates,))
                    for name, values in self.candidates.items()
                },
            }
        )
