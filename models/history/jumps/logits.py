"""Jump logits that learn from tables of folds, and what they make of a batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from behavior.cooccurrence import CooccurrenceConfig, fold_of
from models.data.batch import PackedBatch
from models.data.sequences import SequenceData
from models.data.versions import RowMaps
from models.history.jumps.kinds import JumpTerm
from models.history.jumps.masses import jump_masses
from models.history.jumps.recent import Recent, sequence_of
from models.history.jumps.tables import NOBODY, FoldTables, count_tables, follower_rows
from models.history.jumps.terms import VoteSizes, VoteTerms
from models.history.reference import log_sum
from models.history.within import Within
from models.layers.dropout import Dropout

_ROWS = ("followers", "log_share")


class Votes(NamedTuple):
    """Mass on single items at ranking, for a query a sequence; the same pair may come several times."""

    row: npt.NDArray[np.int64]
    """[votes] sequence, on the host."""
    item: npt.NDArray[np.int64]
    """[votes] known item, id minus the first known one, on the host."""
    place: npt.NDArray[np.int64]
    """[votes] where the mass of each is, on the host."""
    mass: Tensor
    """[sequences * events * neighbors] float32 logarithms, on the device."""
    total: Tensor
    """[sequences] float32 logarithms of the mass of all votes, on the device."""


class JumpLogits(VoteTerms):
    """Votes of the last events for what follows their items, which compete in the softmax of all items.

    Event j has the mass `exp u_j`, spread over the followers of its item by the row of C:
    `u_j = q . k_j + w[behavior_j, wanted behavior] + w_time[bucket(t_query - t_j)] + w_recency[events since]
    + w_gap[bucket(t_query - t_last)] + c`, mostly as history logits have it, with parameters of its own. q
    and k_j are linear maps of what the backbone knows after the last and after the past event; their product
    is divided by the square root of their width. Tables and biases start at zero but recency, which falls by
    `FADING` an event, and c, at `level - BELOW`: all events together then weigh somewhat less than all
    candidates of score 0 together (as history logits start, for the same reason). An event whose item is
    unknown, or has no followers, has no mass. Where votes do not compete with items, only differences between
    events count: there is no c, and keys have no bias.

    In training a sequence reads the table of all folds of users but its own (`count`). In evaluation mode,
    and in ranking, it is the table of everybody, which the state of the module holds: [items, neighbors] of
    8 bytes.

    Args:
        terms: which there are; c is always there.
        config: of C; `neighbors` and `stochastic` are set.
        sizes: of the terms, and how they start.
        num_items: known items.
        folds: of users.
        dropout: probability that an event does not vote for a query, in training.
    """

    followers: Tensor
    log_share: Tensor

    def __init__(
        self,
        terms: Collection[JumpTerm],
        config: CooccurrenceConfig,
        sizes: VoteSizes,
        *,
        num_items: int,
        folds: int,
        dropout: float,
    ) -> None:
        super().__init__(terms, sizes)
        if config.neighbors is None or not config.stochastic:
            raise ValueError("votes are distributions over a fixed number of followers")
        self.config, self.folds = config, folds
        self.num_items = num_items
        self.dropout = Dropout(dropout)
        shape = num_items, config.neighbors
        self.register_buffer("followers", torch.full(shape, NOBODY, dtype=torch.int32))
        self.register_buffer("log_share", torch.zeros(shape))
        # Not part of the state: counted anew whenever a training begins.
        self.counted: FoldTables | None = None
        self._on_host: npt.NDArray[np.int32] | None = None

    def count(
        self,
        parts: Iterable[SequenceData],
        behaviors: Sequence[str] = (),
        member: Tensor | None = None,
    ) -> None:
        """Count C in the training parts of sequences: every fold's, and everybody's.

        Args:
            parts: the sequences, numbered as those of batches are.
            behaviors: their names.
            member: [domain ids, known items] bool, where only items of a domain are to compete.
        """
        fitted = count_tables(parts, self.config, self.folds, behaviors)
        counted = FoldTables.of(fitted.without)
        counted = counted if member is None else counted.of_domains(member.cpu())
        self.counted = counted.to(self.log_share.device)
        for name, rows in zip(_ROWS, follower_rows(fitted.everybody, len(self.followers[0])), strict=True):
            getattr(self, name).copy_(rows)
        self._on_host = None

    def grown(self, maps: RowMaps) -> list[tuple[Tensor, Tensor]]:
        """Tables with a row an item or a pair of behaviors, and their rows out of `maps`."""
        rows = maps.known_items(self.first_item)
        return [(self.followers, rows), (self.log_share, rows), *self.grown_terms(maps)]

    def forward(
        self, outputs: Tensor, batch: PackedBatch, within: Within | None = None
    ) -> tuple[Tensor, Tensor]:
        """[events] each: the logarithms of the mass on the target and on the rest, of every event's query.

        Minus infinity where nothing is to be predicted.

        Args:
            outputs: [events, width], what the backbone knows after each event.
            batch: the events.
            within: which items compete; None: all. In training, of domains that `count` was told of.
        """
        recent = Recent.of_all(batch.sequences, self.events)
        tables, table = self._tables(batch, recent)
        if within is not None and tables.within is None:
            tables = tables.of_domains(within.member)
        domain = None if within is None else within.domain[recent.query]
        with torch.autocast(outputs.device.type, enabled=False):
            logits = self.logits(outputs, batch, recent)
            target = batch.target[:, None]
            competes = recent.present & self.known(batch, recent) & (target >= self.first_item)
            keep = self.dropout.draw(*logits.shape, device=logits.device)
            if keep is not None:
                competes, logits = competes & keep, logits + math.log(self.dropout.scale)
            item = self.numbers(batch, recent)
            return jump_masses(logits, item, target - self.first_item, competes, tables, table, domain)

    def votes(
        self, outputs: Tensor, batch: PackedBatch, items: npt.NDArray[np.int64], lengths: Sequence[int]
    ) -> Votes:
        """What the last events of each sequence vote for, of the query after the last one.

        Pairs are found on the host and their mass on the device, and neither waits for the other.

        Args:
            outputs, batch: as of `forward`.
            items: [events] item ids of the batch, on the host.
            lengths: of its sequences.
        """
        recent = Recent.of_last(batch.sequences, self.events)
        with torch.autocast(outputs.device.type, enabled=False):
            logits = self.logits(outputs, batch, recent)
        numbers = self.numbers(batch, recent)
        mass = logits[..., None] + self.log_share[numbers]
        votes = recent.present & self.known(batch, recent) & (self.followers[numbers, 0] >= 0)
        stop = np.cumsum(lengths, dtype=np.int64)[:, None]
        event = stop - 1 - np.arange(self.events)
        there = np.maximum(event, 0)  # the first sequence may be shorter
        number = (items[there] if len(items) else np.zeros_like(event)) - self.first_item
        known = (event >= stop - np.array(lengths)[:, None]) & (number >= 0)
        followers = self._followers_on_host()[number.clip(0)]  # [sequences, events, neighbors]
        place = np.flatnonzero(known[..., None] & (followers >= 0) & (followers < self.num_items))
        chosen = followers.ravel()[place].astype(np.int64)
        row = place // (self.events * followers.shape[2])
        return Votes(row, chosen, place, mass.flatten(), log_sum(logits, votes))

    def _tables(self, batch: PackedBatch, recent: Recent) -> tuple[FoldTables, Tensor]:
        """C, and the table of each query."""
        if not self.training:
            return self._everybody(), torch.zeros_like(recent.query)
        if self.counted is None:
            raise RuntimeError("jump logits learn from tables that leave users out: call count() first")
        fold = fold_of(batch.sequence, self.folds)
        return self.counted, fold[sequence_of(recent.query, batch.sequences)]

    def _everybody(self) -> FoldTables:
        """Of the state; slow, and for tests and single batches only."""
        item = torch.arange(self.num_items, device=self.followers.device)[:, None]
        there = self.followers >= 0
        keys = (item * self.num_items + self.followers)[there]
        last = keys.new_full((1,), torch.iinfo(torch.int64).max)
        shares = torch.cat([self.log_share[there], self.log_share.new_zeros(1)])
        return FoldTables(torch.cat([keys, last]), shares, there.any(1), self.num_items)

    def _followers_on_host(self) -> npt.NDArray[np.int32]:
        """[items, neighbors]; copied from a device once."""
        if self._on_host is None:
            self._on_host = self.followers.cpu().numpy()
        return self._on_host

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.counted is not None:
            # A run that goes on, or begins with another one's weights, has counted its own data set.
            state_dict |= {prefix + name: getattr(self, name) for name in _ROWS}
        self._on_host = None
        super()._load_from_state_dict(state_dict, prefix, *args)
