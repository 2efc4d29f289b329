"""What the votes of past events add to a softmax: on the target, and on the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from models.history.jumps.tables import FoldTables
from models.history.reference import log_sum
from models.history.within import rest_of

_NOTHING = float("-inf")


def jump_masses(
    logits: Tensor,
    item: Tensor,
    target: Tensor,
    competes: Tensor,
    tables: FoldTables,
    table: Tensor,
    domain: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`log sum_j exp(u_j) C[item_j, target]` and `log sum_j exp(u_j) (1 - C[item_j, target])`.

    A row of C sums to one, so that an event whose item has followers has the mass `exp(u_j)`, whatever it
    follows; where it has none, the event has no mass. Of a domain, 1 is what its items have of the row.

    Args:
        logits: [queries, events] u_j.
        item: [queries, events] int64 numbers of known items.
        target: [queries, 1] int64 number of the item to predict.
        competes: [queries, events] bool, which of them count.
        tables: C.
        table: [queries, 1] int64, which of the tables.
        domain: [queries, 1] int64 domain ids, whose items alone compete; None: all items do.

    Returns:
        `on_target`, `on_rest`: [queries], minus infinity where there is none; differentiable with respect to
        the logits.
    """
    log_share, found, has_followers = tables.look_up(table, item, target)
    on_target = log_sum(logits + log_share, competes & found)
    share = torch.where(found, log_share, _NOTHING)
    if domain is None:
        # One minus a share is exact enough: what is lost is lost beside the share itself.
        left = torch.log1p(-share.exp().clamp(max=1.0))
    else:
        left = rest_of(tables.log_within(table, item, domain), share)
    some = competes & has_followers & (left > _NOTHING)
    return on_target, log_sum(logits + left.masked_fill(~some, 0.0), some)


def vote_losses(on_target: Tensor, on_rest: Tensor) -> Tensor:
    """[queries] `-log` of the share of the votes that the target has; 0 where none is for it.

    Args:
        on_target, on_rest: as `jump_masses` returns them.
    """
    none = on_target == _NOTHING
    target = on_target.masked_fill(none, 0.0)
    return (torch.logaddexp(target, on_rest) - target).masked_fill(none, 0.0)
