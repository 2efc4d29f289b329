"""Scores of items by the votes of a history's events, ranked without a table of users by items."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from models.data.sequences import BoolArray, Int64Array, SequenceData
from models.evaluation.floors.counts import FollowerTable
from models.evaluation.floors.kernels import (
    DECAYED,
    LATEST,
    NONE,
    OPEN,
    Asked,
    Followers,
    Histories,
    Own,
    Rest,
    rank_by_votes,
    votes_of,
)
from models.evaluation.scores import CELLS, Pairs, Scores
from models.evaluation.targets import Targets

OwnVotes = Literal["none", "latest", "decayed", "open"]
_KINDS: dict[OwnVotes, int] = {"none": NONE, "latest": LATEST, "decayed": DECAYED, "open": OPEN}
_FEW = 512
"""Histories that are not worth another thread."""


@dataclass(frozen=True)
class Votes:
    """How the events of a history vote for items.

    Args:
        own: for their own items. none: not at all. latest: the newest item first. decayed: each event weighs
            `own_decay^(events since)`. open: as latest, of items that have no event with a target behavior.
        own_decay: of decayed.
        table: who follows an item elsewhere; behind the votes of latest and open. None: nobody.
        window: how many of the newest events vote by the table.
        decay: each of them weighs `decay^(events since)`.
    """

    own: OwnVotes = "none"
    own_decay: float = 1.0
    table: FollowerTable | None = None
    window: int = 1
    decay: float = 1.0


class Popularity:
    """Events of all items, and how many candidates are at least as popular as each.

    Args:
        events: [items] float64.
    """

    def __init__(self, events: npt.NDArray[np.float64]) -> None:
        self.events = events
        self._at_least: dict[tuple[int, bool], Int64Array] = {}

    def rest(self, candidates: int, member: BoolArray | None, catalog: Int64Array) -> Rest:
        """The order of candidates.

        Args:
            candidates: items from the first one that are.
            member: [catalogs, items] whether an item is in a catalog, each time the same ones; None: there
                is one catalog, of all.
            catalog: [queries] which one.
        """
        key = (candidates, member is None)
        if member is None:
            member = np.ones((1, candidates), dtype=np.bool_)
        member = np.ascontiguousarray(member[:, :candidates])
        if key not in self._at_least:
            events = self.events[:candidates]
            sorted_events = (np.sort(events[inside]) for inside in member)
            below = [np.searchsorted(each, events, side="left") for each in sorted_events]
            self._at_least[key] = member.sum(1)[:, None] - np.stack(below).astype(np.int64)
        return Rest(self.events, member, self._at_least[key], catalog)


@dataclass(frozen=True)
class VoteScores(Scores):
    """Items by votes, those with as many (or none) by popularity; more of a tie there is not."""

    data: SequenceData
    targets: Targets
    """One a query."""
    votes: Votes
    popularity: Popularity
    threads: int = 1
    member: BoolArray | None = None
    """[catalogs, items] whether an item is in a catalog; None: all are candidates."""
    catalog: Int64Array | None = None
    """[queries] the catalog of each."""

    def within(self, member: BoolArray, catalog: Int64Array) -> VoteScores:
        """The same, of items of each query's catalog alone."""
        return replace(self, member=member, catalog=catalog)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def columns(self, first: int, stop: int) -> torch.Tensor:
        """[queries, stop - first] places of the items in the order of all, from below; equal ones are equal.

        For a few queries: ranking needs no such table.
        """
        events = self.popularity.events
        scores = np.zeros((len(self.targets), len(events)))
        touched = np.zeros(len(events), np.int32)
        met, closed = np.zeros((2, len(events)), np.int32)
        for query, row in enumerate(scores):
            votes_of(query, self._histories, self._own, self._followers, row, touched, met, closed)
        places = np.empty(scores.shape)
        for row, place in zip(scores, places, strict=True):
            pairs = np.stack([row, events])
            place[:] = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        if self.member is not None:
            places[~self.member[self._catalog]] = -np.inf
        return torch.from_numpy(places[:, first:stop])

    def rank(
        self,
        query_index: Int64Array | None,
        target: Int64Array,
        num_items: int,
        excluded: Pairs | None = None,
        *,
        cells: int = CELLS,
    ) -> torch.Tensor:
        """See `Scores.rank`; memory is that of a few arrays of the catalog's length a thread."""
        query = np.arange(len(target)) if query_index is None else query_index
        order = np.argsort(query, kind="stable")
        asked = _asked(query, order, target, excluded, len(self.targets))
        found = np.empty(len(target))
        rank = partial(
            rank_by_votes,
            histories=self._histories,
            own=self._own,
            followers=self._followers,
            asked=asked,
            rest=self.popularity.rest(num_items, self.member, self._catalog),
            ranks=found,
        )
        queries = len(self.targets)
        parts = max(1, min(self.threads, queries // _FEW))
        bounds = list(pairwise(np.linspace(0, queries, parts + 1).astype(int).tolist()))
        if parts == 1:
            rank(*bounds[0])
        else:
            with ThreadPoolExecutor(parts, "floor") as pool:
                list(pool.map(lambda bound: rank(*bound), bounds))
        ranks = np.empty(len(target))
        ranks[order] = found
        return torch.from_numpy(ranks)

    @cached_property
    def _histories(self) -> Histories:
        data, targets = self.data, self.targets
        begin = data.offsets[targets.sequence]
        return Histories(data.item, data.behavior, begin, targets.stop, data.about.first_item)

    @property
    def _catalog(self) -> Int64Array:
        return np.zeros(len(self.targets), np.int64) if self.catalog is None else self.catalog

    @cached_property
    def _own(self) -> Own:
        return Own(_KINDS[self.votes.own], self.votes.own_decay, self.data.about.is_target())

    @cached_property
    def _followers(self) -> Followers:
        table, votes = self.votes.table, self.votes
        if table is None:
            table = FollowerTable.empty()
        window = votes.window if votes.table is not None else 0
        return Followers(table.offsets, table.follower, table.count, window, votes.decay)


def _asked(
    query: Int64Array, order: Int64Array, target: Int64Array, excluded: Pairs | None, queries: int
) -> Asked:
    """Targets by query, and the items left out by target."""
    first = np.searchsorted(query[order], np.arange(queries + 1))
    none = np.empty(0, np.int64)
    rows, items = (none, none) if excluded is None else excluded
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    by_target = np.argsort(place[rows], kind="stable")
    excluded_first = np.searchsorted(place[rows][by_target], np.arange(len(order) + 1))
    return Asked(first, target[order].astype(np.int64), excluded_first, items[by_target].astype(np.int64))
