"""Negative sampling: which items a target is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.item_domains import ItemDomains


class NegativeSampler(nn.Module):
    """Samples known items with replacement, from torch's global generator.

    Items that never occur in the training part count as once, so that each of them can be sampled.

    Args:
        train_count: [num_item_ids] how often each item occurs in the training part.
        first_item: the smallest id of a known item.
        popularity_power: 0 draws uniformly, 1 in proportion to the counts.
        domains: of the items, where positions are to have negatives of their target's domain.

    Targets of other positions are negatives, too, where the source is the batch: their shares are those of
    `train_count` until `count_targets` gives those of the positions that carry loss.
    """

    cumulative: Tensor
    odds: Tensor
    frequency: Tensor

    member: Tensor
    members: Tensor
    of_members: Tensor
    starts: Tensor
    weight: Tensor
    sums: Tensor

    def __init__(
        self,
        train_count: Tensor,
        first_item: int,
        popularity_power: float = 0.0,
        domains: ItemDomains | None = None,
    ) -> None:
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
        self.num_domains = 0
        if domains is not None:
            self._divide(weight, domains)

    def _divide(self, weight: Tensor, domains: ItemDomains) -> None:
        """Prepare draws within a domain: its items end to end, and running sums of their weights."""
        self.num_domains = domains.num_domains
        of_domain, members = domains.member.nonzero(as_tuple=True)
        counts = torch.bincount(of_domain, minlength=len(domains.member))
        self.register_buffer("member", domains.member, persistent=False)
        self.register_buffer("members", members, persistent=False)
        self.register_buffer("of_members", weight[members].cumsum(0), persistent=False)
        self.register_buffer("starts", F.pad(counts.cumsum(0), (1, 0)), persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        # The sum before each domain's first item, and at last that of all.
        self.register_buffer("sums", F.pad(self.of_members, (1, 0))[self.starts], persistent=False)

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

    def draw_within(self, domain: Tensor, count: int) -> Tensor:
        """[positions, count] item ranks, each of its position's domain, with odds as within it.

        Args:
            domain: [positions] domain ids; 0 draws from all items.
            count: for each.
        """
        begin, end = self.sums[domain], self.sums[domain + 1]
        uniform = torch.rand(len(domain), count, dtype=torch.float64, device=domain.device)
        place = torch.searchsorted(
            self.of_members, begin[:, None] + uniform * (end - begin)[:, None], right=True
        )
        # Rounding can lead just past a domain's last item.
        first, last = self.starts[domain][:, None], self.starts[domain + 1][:, None] - 1
        return self.members[place.maximum(first).minimum(last)]

    def log_expected(
        self, ranks: Tensor, *, drawn: int, in_batch: Tensor | int, domain: Tensor | None = None
    ) -> Tensor:
        """Logarithm of the expected number of occurrences of items among the negatives of a position.

        A target of the batch is an item with the probability of its share of all targets. One that was never
        counted counts as once where it can only be such a target.

        Args:
            ranks: item ranks, of any shape.
            drawn: negatives drawn by `draw`.
            in_batch: negatives that are targets of other positions; a scalar.
            domain: the domains that were drawn from, broadcast to the shape of `ranks`; None: all items.

        Returns:
            The shape of `ranks`, float32.
        """
        frequency = self.frequency[ranks]
        if not drawn:
            frequency = frequency.clamp(min=self.rarest)
        if domain is None:
            return (drawn * self.odds[ranks] + in_batch * frequency).log()
        odds = (self.weight[ranks] / self.sums.diff()[domain]).float()
        return (drawn * odds + in_batch * frequency).log()
