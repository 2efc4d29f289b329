"""A perceptron over counters alone, beside the head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.loading import SequenceSource
from models.data.windows import Windows, gather
from models.layers.initialization import INIT_STD, init_linear
from models.tasks.ranking.counters import Counters
from models.tasks.ranking.heads import mlp

EVENTS = 200_000
"""Events that means and deviations are taken of, at least where there are so many."""
_AT_ONCE = 2_000


class CounterHead(nn.Module):
    """Logits of counters, which those of the head are added to (wide and deep, Cheng et al., 2016).

    What a user did before says much, and in few numbers: a perceptron of its own learns that before a head
    over everything has learned histories by heart. Numbers are standardized by the training part.

    Args:
        width: numbers of a row.
        hidden: widths of hidden layers.
        labels: how many.
        dropout: behind hidden layers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int, hidden: Sequence[int], labels: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.layers = mlp(width, hidden, dropout)
        self.out = nn.Linear(hidden[-1], labels)
        init_linear(self.out, INIT_STD)

    def forward(self, context: Tensor) -> Tensor:
        """[n, labels] of [n, numbers]."""
        return self.out(self.layers((context - self.mean) / self.deviation))

    def look_at(self, numbers: Tensor) -> None:
        """Learn means and deviations of [rows, numbers]; what is always the same stays as it is."""
        rows = numbers.double()
        self.mean.copy_(rows.mean(0))
        deviation = rows.std(0, correction=0)
        self.deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))


def counted_rows(
    source: SequenceSource, counters: Counters, rates: Tensor, *, time_known: bool, events: int = EVENTS
) -> Tensor:
    """[rows, numbers] of the counters of training events: of the first sequences, until there are enough.

    Args:
        source: sequences with the columns of counters.
        counters: on any device.
        rates: as of `Counters.forward`.
        time_known: whether a question knows when it is asked.
        events: how many are enough.
    """
    found, rows = [], 0
    for data in source:
        number = (data.train_end > 0).nonzero()[0]
        for begin in range(0, len(number), _AT_ONCE):
            if rows >= events:
                break
            chosen = number[begin : begin + _AT_ONCE]
            start = data.offsets[chosen]
            last = start + data.train_end[chosen] - 1
            # The last event of a training part is asked about, and is an input only where it is the first.
            windows = Windows(chosen, start, last.clip(min=start + 1), last)
            batch = gather(data, windows, time="known" if time_known else "unknown").to(rates.device)
            numbers = counters(batch, rates)
            alone = torch.from_numpy(last == start)
            lengths = torch.from_numpy(windows.lengths)
            kept = torch.cat([alone.logical_not().repeat_interleave(lengths), torch.ones_like(alone)])
            found.append(numbers[kept.to(numbers.device)].cpu())
            rows += len(found[-1])
        if rows >= events:
            break
    return torch.cat(found)
