"""Decayed counts of items over time, in memory that follows the number of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.trends.kernels import log_decayed


@dataclass(frozen=True)
class TrendTable:
    """How popular items were of late: counts of events that decay exponentially with time.

    The count of item i just before time t, at time scale tau, is the sum over its events at times t_e < t
    of `exp(-(t - t_e) / tau)`: an event at t itself is not in it. It is the count right after the last such
    event, which stands here, decayed since.

    Attributes:
        item: [events] int64 numbers of items, sorted.
        time: [events] int64 seconds, sorted within each item.
        log_count: [events, scales] float32 logarithm of the item's count right after each event.
        total_time: [events] int64 seconds of all events, sorted.
        log_total: [events, scales] float32, likewise of all items together.
        scales: [scales] float64 seconds.
        items: how many items there are.
    """

    item: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    log_count: npt.NDArray[np.float32]
    total_time: npt.NDArray[np.int64]
    log_total: npt.NDArray[np.float32]
    scales: npt.NDArray[np.float64]
    items: int

    @property
    def begin(self) -> npt.NDArray[np.int64]:
        """[items + 1] where the events of each item begin."""
        return np.searchsorted(self.item, np.arange(self.items + 1))


def count_trends(
    item: npt.NDArray[np.integer], time: npt.NDArray[np.integer], scales: Sequence[float], items: int
) -> TrendTable:
    """The table of some events, in any order.

    Args:
        item: [events] numbers of items, from 0; events of others (negative) are left out.
        time: [events] seconds.
        scales: time scales tau, in seconds, each above 0.
        items: how many items there are.

    Raises:
        ValueError: arrays of different lengths, an item that there is not, or no or a wrong time scale.
    """
    if item.shape != time.shape or item.ndim != 1:
        raise ValueError(f"items of shape {item.shape} with times of shape {time.shape}")
    if not scales or min(scales) <= 0.0:
        raise ValueError(f"time scales {list(scales)}: there has to be one, and all above 0 seconds")
    known = item >= 0
    numbers, times = item[known].astype(np.int64), time[known].astype(np.int64)
    if len(numbers) and numbers.max() >= items:
        raise ValueError(f"item {numbers.max()}, of {items}")
    decay = np.asarray(scales, np.float64)
    order = np.lexsort((times, numbers))
    by_item, at = numbers[order], times[order]
    total = np.sort(times)
    return TrendTable(
        item=by_item,
        time=at,
        log_count=log_decayed(by_item, at, decay),
        total_time=total,
        log_total=log_decayed(np.zeros(len(total), np.int64), total, decay),
        scales=decay,
        items=items,
    )
