"""A table of trends on the device, and what share of all recent events an item had at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from behavior.trends import TrendTable

NOTHING = -1e9
"""Logarithm of no share at all: finite, since differences of infinities are no numbers."""


class TrendShares(nn.Module):
    """Shares of items in the decayed counts of all: a distribution over items, at any time, for each scale.

    Args:
        table: of events that may be known.
    """

    key: Tensor
    time: Tensor
    log_count: Tensor
    total_time: Tensor
    log_total: Tensor
    scales: Tensor

    def __init__(self, table: TrendTable) -> None:
        super().__init__()
        self.start = int(table.total_time[0]) if len(table.total_time) else 0
        last = int(table.total_time[-1]) if len(table.total_time) else 0
        # Of a key, the item is the high part: one search finds the item's last event before a time.
        self.span = last - self.start + 2
        self.begin = table.begin
        buffers = {
            "key": table.item * self.span + (table.time - self.start),
            "time": table.time,
            "log_count": table.log_count,
            "total_time": table.total_time,
            "log_total": table.log_total,
            "scales": table.scales.astype(np.float32),
        }
        for name, values in buffers.items():  # made of the data set again, whenever the model is built
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    @property
    def num_scales(self) -> int:
        return len(self.scales)

    def of(self, item: Tensor, time: Tensor) -> Tensor:
        """[n, scales] float32 logarithm of the share of items just before times, or `NOTHING`.

        Args:
            item, time: as of `log_counts_before`.
        """
        return self.in_all(self.log_counts_before(item, time), time)

    def in_all(self, log_count: Tensor, time: Tensor) -> Tensor:
        """[n, scales] logarithm of the share that decayed counts just before times have in those of all."""
        return (log_count - self.log_totals(time)).masked_fill(log_count == NOTHING, NOTHING)

    def log_counts_before(self, item: Tensor, time: Tensor) -> Tensor:
        """[n, scales] float32 logarithm of the decayed count of items just before times, or `NOTHING`.

        Args:
            item: [n] int64 numbers of items; a negative one has none.
            time: [n] int64 seconds.
        """
        if not len(self.key):
            return time.new_full((len(time), self.num_scales), NOTHING, dtype=torch.float32)
        key = item * self.span + (time - self.start).clamp(0, self.span - 1)
        event = torch.searchsorted(self.key, key) - 1
        found = event.clamp(min=0)
        has = (event >= 0) & (item >= 0) & (self.key[found] >= item * self.span)
        return self._decayed(self.log_count, self.time, found, time).masked_fill(~has[:, None], NOTHING)

    def log_totals(self, time: Tensor) -> Tensor:
        """[n, scales] logarithm of the decayed count of all items just before times, or `NOTHING`."""
        event = torch.searchsorted(self.total_time, time) - 1
        total = self._decayed(self.log_total, self.total_time, event.clamp(min=0), time)
        return total.masked_fill((event < 0)[:, None], NOTHING)

    def known_before(self, time: Tensor) -> Tensor:
        """[n] bool, whether anything happened before these times."""
        if not len(self.total_time):
            return torch.zeros_like(time, dtype=torch.bool)
        return time > self.total_time[0]

    def last_events(self, time: Tensor, first: int, stop: int) -> Tensor:
        """[n, stop - first] the last event of each item before each time, -1 where there is none.

        Each event is put to the first query after it; the largest number so far, in order of time, is the
        last event. So no search is made for each pair, and nothing waits for the device.

        Args:
            time: [n] int64 seconds, sorted.
            first: number of the first item.
            stop: of the last one, exclusive.
        """
        low, high = int(self.begin[first]), int(self.begin[stop])
        width = stop - first
        event = torch.arange(low, high, device=time.device)
        row = torch.searchsorted(time, self.time[low:high], right=True)
        column = torch.div(self.key[low:high], self.span, rounding_mode="floor") - first
        last = torch.full(((len(time) + 1) * width,), -1, dtype=torch.int64, device=time.device)
        last.scatter_reduce_(0, row * width + column, event, "amax")
        return last.view(-1, width)[: len(time)].cummax(0).values

    def log_counts(self, event: Tensor, time: Tensor, scale: int) -> Tensor:
        """Logarithm of an item's decayed count, of its last event before a time; any shapes that fit."""
        since = (time - self.time[event]).float() / self.scales[scale]
        return self.log_count[:, scale][event] - since

    def _decayed(self, log_count: Tensor, at: Tensor, event: Tensor, time: Tensor) -> Tensor:
        since = (time - at[event]).float()
        return log_count[event] - since[:, None] / self.scales
