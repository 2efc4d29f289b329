"""Calls of a cache: what is told of them on the host, from who is in which page and what is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.serving.cache.call import Call
from models.serving.cache.checks import check_counts
from models.serving.cache.directory import Directory
from models.serving.cache.events import EventColumns
from models.serving.cache.ragged import Ints, counted_up, offsets_of
from models.serving.cache.tokens import TokenCounts
from models.serving.cache.window import Growth


class MicroBatch(NamedTuple):
    """Candidates that are computed in one pass."""

    counts: Ints
    """[users] how many of each."""
    rows: Ints
    """Users who have any."""
    places: Ints
    """[of them] where each is among all candidates."""
    whole: bool
    """Whether these are all."""

    def of(self, told: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is known of these, of what is known of all candidates, [candidates] each."""
        if self.whole:
            return dict(told)
        return {name: each[torch.from_numpy(self.places).to(each.device)] for name, each in told.items()}


def micro_batches(counts: Ints, items: int, users: int, at_once: int) -> Iterator[MicroBatch]:
    """Candidates in parts.

    Args:
        counts: [users] of each.
        items: of all together.
        users: how many there ought to be.
        at_once: most of a user in a part.

    Raises:
        ValueError: counts do not go with users and items.
    """
    check_counts(counts, items, users)
    if at_once < 1:
        raise ValueError("one candidate at once at least")
    starts, most = offsets_of(counts)[:-1], int(counts.max(initial=0))
    for first in range(0, most, at_once):
        some = np.clip(counts - first, 0, at_once)
        rows = np.flatnonzero(some)
        places = counted_up(starts[rows] + first, some[rows])
        yield MicroBatch(some, rows, places, most <= at_once)


class Calls:
    """Makes calls.

    Args:
        directory: who is where.
        events: the columns that are read.
        tokens: of events.
    """

    def __init__(self, directory: Directory, events: EventColumns, tokens: TokenCounts) -> None:
        self.directory, self.events, self.tokens = directory, events, tokens

    def growing(
        self,
        slots: Ints,
        growth: Growth,
        batch: PackedBatch,
        question: dict[str, Ints],
        candidates: Mapping[str, Tensor] | None = None,
        counts: Ints | None = None,
    ) -> Call:
        """Of new events, the first of which tell the newest ones so far what came next; and candidates.

        Args:
            slots: [users] of the directory.
            growth: what is computed.
            batch: the events, on any device, one at least.
            question: what the newest of them are asked, where that is not as the batch says.
            candidates: [candidates] each, what is known of those after these.
            counts: [users] how many each has.
        """
        offsets = offsets_of(np.array(batch.sequences.lengths, np.int64))
        # Of who has no new event, any: nothing is told.
        first = torch.from_numpy(offsets[:-1].clip(max=offsets[-1] - 1)).to(batch.item.device)
        begin = offsets[1:] - growth.given
        none = np.zeros_like(slots)
        return Call(
            numbers=np.stack(
                [
                    growth.base,
                    growth.first,
                    growth.remembered,
                    growth.given,
                    begin,
                    none if counts is None else counts,
                ]
            ),
            table=self.directory.table[slots],
            sequence=self.directory.sequence[slots],
            tokens=self.tokens,
            answer={
                stored: self.events.own(batch, stored)[first]
                for stored in dict.fromkeys(self.events.asked.values())
            },
            question=question,
            given=self.events.given(batch),
            candidates=candidates or {},
            kept=True,
        )

    def asking(
        self,
        slots: Ints,
        question: dict[str, Ints],
        candidates: Mapping[str, Tensor] | None = None,
        counts: Ints | None = None,
        *,
        columns: bool = False,
    ) -> Call:
        """Of what is asked after the newest event of each, or of candidates after it.

        Args:
            slots: [users] of the directory.
            question: [users] what is asked, where that is not as the batch said in which the event came.
            candidates: [candidates] each, what is known of them.
            counts: [users] how many each has.
            columns: whether the columns of the newest events are asked for, too.
        """
        last, one, none = self.directory.length[slots] - 1, np.ones_like(slots), np.zeros_like(slots)
        return Call(
            numbers=np.stack([last, last, one, none, none, none if counts is None else counts]),
            table=self.directory.table[slots],
            sequence=self.directory.sequence[slots],
            tokens=self.tokens,
            answer={},
            question=question,
            given={},
            candidates=candidates or {},
            columns=columns,
        )
