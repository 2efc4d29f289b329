"""Negative sampling: which items stand against the one that was taken."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from behavior.config import Config


class NegativesConfig(Config):
    """How negatives are drawn for the sampled softmax."""

    count: int = Field(
        128, ge=1, description="negatives of a position (of the whole batch when shared by it)"
    )
    sharing: Literal["position", "batch"] = Field(
        "position",
        description="who uses a draw: each position its own (as published), or all of a batch the same",
    )
    popularity_power: float = Field(
        0.0,
        ge=0.0,
        description="an item is drawn in proportion to its training count to this power; 0 is uniform",
    )
    logq: bool = Field(
        False, description="correct for the odds of being drawn, so that the loss estimates the full softmax"
    )


class NegativeSampler(torch.nn.Module):
    """Draws known items with replacement, from torch's own random numbers.

    Items that never occur in the training part count as once, so that each of them can be drawn.

    Args:
        train_count: [num_item_ids] how often each item occurs in the training part.
        first_item: the smallest id of a known item.
        popularity_power: 0 draws uniformly, 1 in proportion to the counts.
    """

    cumulative: torch.Tensor
    log_odds: torch.Tensor

    def __init__(self, train_count: torch.Tensor, first_item: int, popularity_power: float = 0.0) -> None:
        super().__init__()
        weight = train_count[first_item:].double().clamp(min=1.0) ** popularity_power
        odds = weight / weight.sum()
        self.num_items = len(weight)
        self.uniform = popularity_power == 0.0
        self.register_buffer("cumulative", odds.cumsum(0), persistent=False)
        self.register_buffer("log_odds", odds.log().float(), persistent=False)

    def draw(self, *shape: int) -> torch.Tensor:
        """Item ranks (id minus the first known id), int64, of the given shape."""
        device = self.cumulative.device
        if self.uniform:
            return torch.randint(self.num_items, shape, device=device)
        uniform = torch.rand(shape, dtype=torch.float64, device=device)
        # Rounding can leave the last sum a hair below one.
        return torch.searchsorted(self.cumulative, uniform, right=True).clamp(max=self.num_items - 1)
