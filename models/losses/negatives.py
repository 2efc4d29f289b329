"""Negative sampling: which items a target is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NegativeSampler(nn.Module):
    """Samples known items with replacement, from torch's global generator.

    Items that never occur in the training part count as once, so that each of them can be sampled.

    Args:
        train_count: [num_item_ids] how often each item occurs in the training part.
        first_item: the smallest id of a known item.
        popularity_power: 0 draws uniformly, 1 in proportion to the counts.

    Targets of other positions are negatives, too, where the source is the batch: their shares are those of
    `train_count` until `count_targets` gives those of the positions that carry loss.
    """

    cumulative: Tensor
    odds: Tensor
    frequency: Tensor

    def __init__(self, train_count: Tensor, first_item: int, popularity_power: float = 0.0) -> None:
        super().__init__()
        count = train_count[first_item:].double().clamp(min=1.0)
        weight = count**popularity_power
        odds = weight / weight.sum()
        self.num_items = len(weight)
        self.uniform = popularity_power == 0.0
        self.register_buffer("cumulative", odds.cumsum(0), persistent=False)
        self.register_buffer("odds", odds.float(), persistent=False)
        self.register_buffer("frequency", (count / count.sum()).float(), persistent=False)
        self.rarest = 0.0

    def count_targets(self, counts: Tensor) -> None:
        """Tell how often each item is the target of a position that carries loss.

        Args:
            counts: [num_item_ids], as `models.data.loading.TrainLoader.target_counts` gives them.
        """
        known = counts[-self.num_items :].double()
        if known.sum() > 0:
            self.frequency.copy_(known / known.sum())
            self.rarest = 1.0 / float(known.sum())

    def draw(self, *shape: int) -> Tensor:
        """Item ranks (id minus the first known id), int64, of the given shape."""
        device = self.cumulative.device
        if self.uniform:
            return torch.randint(self.num_items, shape, device=device)
        uniform = torch.rand(shape, dtype=torch.float64, device=device)
        # Rounding can leave the last sum a hair below one.
        return torch.searchsorted(self.cumulative, uniform, right=True).clamp(max=self.num_items - 1)

    def log_expected(self, ranks: Tensor, *, drawn: int, in_batch: Tensor | int) -> Tensor:
        """Logarithm of the expected number of occurrences of items among the negatives of a position.

        A target of the batch is an item with the probability of its share of all targets. One that was never
        counted counts as once where it can only be such a target.

        Args:
            ranks: item ranks, of any shape.
            drawn: negatives drawn by `draw`.
            in_batch: negatives that are targets of other positions; a scalar.

        Returns:
            The shape of `ranks`, float32.
        """
        frequency = self.frequency[ranks]
        if not drawn:
            frequency = frequency.clamp(min=self.rarest)
        return (drawn * self.odds[ranks] + in_batch * frequency).log()
