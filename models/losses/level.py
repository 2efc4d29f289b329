"""How much mass the candidates of a loss have, which whatever competes with them starts from."""

from __future__ import annotations

import math

from models.losses.config import LossConfig
from models.losses.kinds import LOSSES


def candidates_level(loss: LossConfig, num_items: int) -> float:
    """Logarithm of the sum of `exp s` over all that a target is compared with, where all score 0.

    Of the full softmax that are all items, and of a sampled one that estimates it (`logq`); of a sampled
    softmax otherwise its negatives. With `item_bias` items start at the logarithms of their shares, so that
    all of them together have the mass 1. A loss that looks at candidates one by one has no such sum: 0, the
    level of one of them.

    Args:
        loss: settings.
        num_items: known items.
    """
    negatives = loss.negatives
    if not LOSSES[loss.kind].softmax:
        return 0.0
    every = math.log(max(1, num_items))
    level = every if loss.kind == "full_softmax" or negatives.logq else math.log(negatives.count)
    return level if loss.item_bias == "none" else level - every
