"""Jump logits that read tables without the asking user's own pairs, in training and ranking alike."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from behavior.cooccurrence import ExactTables
from models.data.batch import PackedBatch
from models.data.versions import RowMaps
from models.history.jumps.exact_tables import ExactLookUp
from models.history.jumps.kinds import JumpTerm
from models.history.jumps.recent import Recent, sequence_of
from models.history.jumps.terms import VoteSizes, VoteTerms
from models.history.reference import log_sum
from models.history.within import Within, rest_of
from models.layers.dropout import Dropout

_NOTHING = float("-inf")


class ExactJumpLogits(nn.Module):
    """Votes of the last events by one or several tables, each with terms of its own, all in one softmax.

    `sum over tables c of sum over events j of exp(u^c_j) C^c_-u[item_j, i]`, where `C_-u[a, i] = (C[a, i] -
    own_u[a, i]) / (R[a] - own_u[a])`: C counts everybody's training part, R is the sum of its row, and own_u
    what user u has added to both. So nobody reads their own events, and everybody all of the others'. The
    same is read in training, evaluation and serving; from whom is not in the data set, nothing is subtracted.

    Args:
        tables: counted in what is trained on, in this order.
        names: of the tables.
        terms: of every table; see `models.history.jumps.terms.VoteTerms`.
        sizes: of the terms.
        dropout: probability that an event does not vote for a query by a table, in training.
        member: [domain ids, known items] bool, where only items of a domain are to compete in training.
    """

    def __init__(
        self,
        tables: ExactTables,
        names: Sequence[str],
        terms: Collection[JumpTerm],
        sizes: VoteSizes,
        *,
        dropout: float,
        member: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({f"{name}_": VoteTerms(terms, sizes) for name in names})
        self.tables = ExactLookUp(tables, member)
        self.events, self.first_item = sizes.events, sizes.first_item
        self.dropout = Dropout(dropout)

    @property
    def votes_of(self) -> list[VoteTerms]:
        """The terms of each table."""
        return [one for one in self.terms.values() if isinstance(one, VoteTerms)]

    @property
    def by_behavior(self) -> list[nn.Parameter]:
        """Tables with a row for each pair of a past and a wanted behavior that there are."""
        return [table for one in self.votes_of for table in one.by_behavior]

    def grown(self, maps: RowMaps) -> list[tuple[Tensor, Tensor]]:
        """Tables with a row a pair of behaviors, and their rows out of `maps`."""
        return [found for one in self.votes_of for found in one.grown_terms(maps)]

    def forward(
        self, outputs: Tensor, batch: PackedBatch, within: Within | None = None
    ) -> tuple[Tensor, Tensor]:
        """[events] each: the logarithms of the mass on the target and on the rest, of every event's query.

        Minus infinity where nothing is to be predicted.

        Args:
            outputs: [events, width], what the backbone knows after each event.
            batch: the events.
            within: which items compete; None: all.
        """
        recent = Recent.of_all(batch.sequences, self.events)
        user = batch.sequence[sequence_of(recent.query, batch.sequences)]
        with torch.autocast(outputs.device.type, enabled=False):
            logits, item, competes = self._asked(outputs, batch, recent)
            target = batch.target[:, None] - self.first_item
            competes = competes & (target >= 0)
            keep = self.dropout.draw(*logits.shape, device=logits.device)
            if keep is not None:
                competes, logits = competes & keep, logits + math.log(self.dropout.scale)
            row = self.tables.row(user, item)
            share = self.tables.log_shares(row, item, target)
            found = share > _NOTHING
            on_target = log_sum(_flat(logits + share.masked_fill(~found, 0.0)), _flat(competes & found))
            if within is None:
                left = torch.log1p(-share.exp())  # a row sums to one
            else:
                domain = within.domain[recent.query]
                left = rest_of(self.tables.log_within(row, item, domain), share)
            some = competes & (row.log_total > _NOTHING) & (left > _NOTHING)
            on_rest = log_sum(_flat(logits + left.masked_fill(~some, 0.0)), _flat(some))
            return on_target, on_rest

    def mass(self, outputs: Tensor, batch: PackedBatch) -> JumpMass:
        """At ranking time, of the query after the last event of each sequence.

        Args:
            outputs, batch: as of `forward`.
        """
        recent = Recent.of_last(batch.sequences, self.events)
        with torch.autocast(outputs.device.type, enabled=False):
            logits, item, competes = self._asked(outputs, batch, recent)
            row = self.tables.row(batch.sequence[:, None], item)
            counts = competes & (row.log_total > _NOTHING)
            weight = (logits - row.log_total.masked_fill(~counts, 0.0)).masked_fill(~counts, _NOTHING)
        return JumpMass(self.tables, weight, item, row.own)

    def _asked(self, outputs: Tensor, batch: PackedBatch, recent: Recent) -> tuple[Tensor, Tensor, Tensor]:
        """[tables, queries, events] logits, [queries, events] numbers of items, and which events count."""
        terms = self.votes_of
        logits = torch.stack([one.logits(outputs, batch, recent) for one in terms])
        competes = recent.present & terms[0].known(batch, recent)
        return logits, terms[0].numbers(batch, recent), competes


def _flat(values: Tensor) -> Tensor:
    """[queries, tables * events] of [tables, queries, events]."""
    return values.transpose(0, 1).flatten(1)


@dataclass(frozen=True, eq=False)
class JumpMass:
    """Mass of all followers for some queries at ranking time: `s_i <- log(exp s_i + exp mass_i)`."""

    tables: ExactLookUp
    weight: Tensor
    """[tables, queries, events] logarithm of what a count of a row weighs; minus infinity: the event has no
    votes."""
    item: Tensor
    """[queries, events] int64 numbers of items."""
    own: Tensor
    """[queries, events] int64 as of `models.history.jumps.exact_tables.Row`."""

    def add_to(self, scores: Tensor, first: int, stop: int) -> Tensor:
        """Add the mass to scores, in place, in an order that is always the same.

        Args:
            scores: [queries, stop - first] of items `first` to `stop`, as logits.
            first: of the items.
            stop: of the items, exclusive.

        Returns:
            `scores`.
        """
        level = self.weight.amax((0, 2))  # [queries]
        level = level.masked_fill(level == _NOTHING, 0.0)
        weight = (self.weight - level[:, None]).exp()
        mass = torch.zeros_like(scores)
        for query, follower, more in self.tables.masses(weight, self.item, self.own):
            here = (follower >= first) & (follower < stop)
            # Of one event, no query has a follower twice: nothing is added up in a changing order.
            cells = query[here], follower[here] - first
            mass[cells] = mass[cells] + more[here].to(mass.dtype)
        return torch.logaddexp(scores, mass.log() + level[:, None].to(mass.dtype), out=scores)
