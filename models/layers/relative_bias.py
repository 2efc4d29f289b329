"""The learned tables of a relative attention bias."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from models.attention import RelativeBias, RelativeTime
from models.attention.bias import NUM_BUCKETS

BiasSetting = Literal["both", "time", "position", "none"]


def uses_time(setting: BiasSetting) -> bool:
    """Whether a bias setting looks at timestamps."""
    return setting in ("both", "time")


class RelativeBiasTables(nn.Module):
    """One pair of tables, shared by all heads of a block; normal(0, 0.02) (HSTU, arXiv 2402.17152).

    Args:
        setting: which of the two tables there are.
        max_length: size of the position table.
    """

    def __init__(self, setting: BiasSetting, max_length: int) -> None:
        super().__init__()
        self.position = _table(max_length) if setting in ("both", "position") else None
        self.time = _table(NUM_BUCKETS) if uses_time(setting) else None

    def forward(self, relative_time: RelativeTime) -> RelativeBias | None:
        """The bias of one batch, or None where there are no tables."""
        if self.position is None and self.time is None:
            return None
        return RelativeBias(self.position, self.time, relative_time if self.time is not None else None)


def _table(size: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(size).normal_(0.0, 0.02))
