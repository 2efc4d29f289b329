"""Which items compete at an event, where they are those of one domain (`loss.negatives.domain: within`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Within:
    """Only items of the domain of what is predicted have mass: past events of others have none, votes and
    trends that part alone which is for items of the domain."""

    member: Tensor
    """[domain ids, known items] bool; an item may be of several. Row 0 is of no domain."""
    domain: Tensor
    """[events] int64 domain ids of what is predicted."""

    @property
    def num_domains(self) -> int:
        """Ids 1..num_domains."""
        return len(self.member) - 1

    def parts(self, number: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each domain which events' items are of it, and which events ask for it, [events] bool both.

        Args:
            number: [events] int64 numbers of items, from the first known one.
        """
        for domain in range(1, self.num_domains + 1):
            yield self.member[domain][number], self.domain == domain


def rest_of(log_whole: Tensor, log_share: Tensor) -> Tensor:
    """`log(whole - share)` of logarithms, minus infinity where the share is all of it, or there is nothing.

    Without gradients.
    """
    nothing = log_whole.isinf()
    whole = log_whole.masked_fill(nothing, 0.0)
    left = torch.log1p(-(log_share - whole).exp().clamp(max=1.0))
    return (whole + left).masked_fill(nothing, float("-inf"))
