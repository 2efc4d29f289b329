"""How much mass the candidates of a loss have, which whatever competes with them starts from."""

from __future__ import annotations

import math

from models.data.item_domains import ItemDomains
from models.losses.config import LossConfig
from models.losses.kinds import LOSSES


def candidates_level(loss: LossConfig, num_items: int, domains: ItemDomains | None = None) -> float:
    """Logarithm of the sum of `exp s` over all that a target is compared with, where all score 0.

    Of the full softmax that are all items, and of a sampled one that estimates it (`logq`); of a sampled
    softmax otherwise its negatives. With `item_bias` items start at the logarithms of their shares, so that
    all of them together have the mass 1. A loss that looks at candidates one by one has no such sum: 0, the
    level of one of them.

    Where a target competes with the items of its domain only, all are those of a domain: the mean of the
    logarithms of how many each has, since one level is learned for all. A domain's share of what is trained
    on is taken for its share of the items.

    Args:
        loss: settings.
        num_items: known items.
        domains: of the items, where only those of a domain compete; None: all items do.
    """
    negatives = loss.negatives
    if not LOSSES[loss.kind].softmax:
        return 0.0
    every = math.log(max(1, num_items))
    those = every if domains is None else _mean_size(domains)
    level = those if loss.kind == "full_softmax" or negatives.logq else math.log(negatives.count)
    return level if loss.item_bias == "none" else level - every


def _mean_size(domains: ItemDomains) -> float:
    """Logarithm of the geometric mean of how many items domains have; one without any is nobody's target."""
    sizes = domains.member[1:].sum(1).tolist()
    logs = [math.log(size) for size in sizes if size]
    return sum(logs) / len(logs) if logs else 0.0
