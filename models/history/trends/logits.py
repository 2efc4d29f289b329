"""The parameters of trend logits, and the mass that they give to items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from behavior.trends import TrendTable
from models.attention.bias import NUM_BUCKETS, time_bucket
from models.data.batch import PackedBatch
from models.history.jumps.select import select
from models.history.reference import log_sum
from models.history.trends.shares import NOTHING, TrendShares
from models.history.within import Within
from models.layers.roles import Role

BELOW = 1.5
"""How much lower than all candidates together each scale starts."""


class TrendLogits(nn.Module):
    """Logits of what is popular at the moment, which competes with the scores of all items in one softmax.

    To `exp s_i` of each item comes `sum over scales r of exp(v_r) * P_r(i, t)`: P_r is the share of item i in
    all events before the query's time t, each weighed by `exp(-(t - t_e) / tau_r)`, a distribution over
    items, and `v_r = w_r . h + b_r[wanted behavior] + c_r[bucket(t - t_last)] + d_r`, with h what the
    backbone knows and t_last the time of the last event of the history. Counts look back only: the event to
    predict is not in them, nor is any other of its second.

    All parameters start at zero but d, at `level - BELOW`: all scales together then weigh about as much as
    all candidates of score 0 together.

    Args:
        table: decayed counts of the events that are trained on.
        width: of the backbone's outputs.
        num_behaviors: ids 1 to num_behaviors.
        first_item: the smallest id of a known item.
        level: logarithm of the mass of all candidates of score 0; see `models.losses.level`.
        domains: decayed counts of the same events by the domains of their items, in place of items, where
            only items of a domain are to compete in training.
    """

    parameter_roles = dict.fromkeys(("constant", "behavior", "time"), Role.LOGIT)

    def __init__(
        self,
        table: TrendTable,
        *,
        width: int,
        num_behaviors: int,
        first_item: int,
        level: float,
        domains: TrendTable | None = None,
    ) -> None:
        super().__init__()
        self.first_item = first_item
        self.shares = TrendShares(table)
        self.domains = None if domains is None else TrendShares(domains)
        scales = self.shares.num_scales
        self.query = nn.Linear(width, scales, bias=False)
        nn.init.zeros_(self.query.weight)
        self.behavior = nn.Parameter(torch.zeros(num_behaviors + 1, scales))
        self.time = nn.Parameter(torch.zeros(NUM_BUCKETS, scales))
        self.constant = nn.Parameter(torch.full((scales,), level - BELOW))

    def forward(
        self, outputs: Tensor, batch: PackedBatch, within: Within | None = None
    ) -> tuple[Tensor, Tensor]:
        """[events] float32 each: the logarithms of the mass on the target and on the rest; minus infinity
        where there is none.

        Args:
            outputs: [events, width], what the backbone knows after each event.
            batch: the events.
            within: which items compete; None: all.
        """
        weight, time = self.weights(outputs, batch), batch.query_time
        share = self.shares.of(batch.target - self.first_item, time)
        if within is None:
            whole, some = torch.zeros_like(share), self.shares.known_before(time)[:, None].expand_as(share)
        elif self.domains is None:
            raise ValueError("trends of domains are not counted")
        else:
            whole = self.shares.in_all(self.domains.log_counts_before(within.domain, time), time)
            some = whole > NOTHING / 2
        # Below 1 by more than a float's rounding: the logarithm of what is left has to be a number.
        left = whole + torch.log1p(-(share - whole).exp().clamp(max=1.0 - 1e-6))
        on_target = log_sum(weight + share, share > NOTHING / 2)
        return on_target, log_sum(weight + left, some)

    def weights(self, outputs: Tensor, batch: PackedBatch) -> Tensor:
        """[events, scales] float32 v_r of each event's query."""
        found = self.query(outputs).float() + self.constant
        found = found + select(self.behavior, batch.target_behavior)
        since = time_bucket(batch.query_time - batch.timestamp)
        return found + select(self.time, since)


@dataclass(frozen=True, eq=False)
class TrendMass:
    """Mass of all items for some queries at ranking time: `s_i <- log(exp s_i + exp mass_i)`."""

    shares: TrendShares
    time: Tensor
    """[queries] int64 seconds."""
    weight: Tensor
    """[queries, scales] float32 v_r."""

    def add_to(self, scores: Tensor, first: int, stop: int) -> Tensor:
        """Add the mass to scores, in place; linear in their number.

        Args:
            scores: [queries, stop - first] of items `first` to `stop`, as logits.
            first: of the items.
            stop: of the items, exclusive.

        Returns:
            `scores`.
        """
        if not len(self.shares.time) or stop == first:
            return scores
        time, order = self.time.sort()
        last = torch.empty_like(scores, dtype=torch.int64)
        last[order] = self.shares.last_events(time, first, stop)
        none, last = last < 0, last.clamp(min=0)
        level = self.weight - self.shares.log_totals(self.time)
        for scale in range(self.shares.num_scales):
            mass = self.shares.log_counts(last, self.time[:, None], scale) + level[:, scale, None]
            torch.logaddexp(scores, mass.to(scores.dtype).masked_fill_(none, float("-inf")), out=scores)
        return scores
