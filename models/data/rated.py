"""What everybody did before a moment with what the next item has: statistics that look at no later event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from models.data.counted import Values
from models.data.origins import Samples

Float32Array = npt.NDArray[np.float32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RateTable:
    """Running sums of the events of all users, by the values of their items and by time.

    Attributes:
        values: what items are counted by.
        begin: [values + 1] where the events of each value begin.
        time: [events of all values] seconds, sorted within each value.
        sums: [columns, events of all values] of the weights of the value's events up to each.
    """

    values: Values
    begin: Int64Array
    time: Int64Array
    sums: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls, values: Values, item: npt.NDArray[np.integer], time: Int64Array, weights: Sequence[Float32Array]
    ) -> RateTable:
        """Of events in any order: [events] items, seconds, and weights of each column."""
        counts = np.diff(values.offsets)[item]
        event = np.repeat(np.arange(len(item)), counts)
        inside = np.arange(len(event)) - np.repeat(np.cumsum(counts) - counts, counts)
        value = values.values[values.offsets[item[event]] + inside]
        order = np.lexsort((time[event], value))
        event, value = event[order], value[order]
        begin = np.searchsorted(value, np.arange(values.count + 1))
        own = begin[value]
        sums = np.empty((len(weights), len(event)))
        for number, weight in enumerate(weights):
            running = np.cumsum(weight[event], dtype=np.float64)
            before = np.concatenate(([0.0], running))
            sums[number] = running - before[own]
        return cls(values, begin, time[event], sums)


@dataclass(frozen=True, eq=False)
class Rated:
    """The sum of a column of a `RateTable` over the events before the question that have what the next item
    has, whoever's they are; of an item with several values the mean over them.

    Events at the very moment of the question are not before it: neither the one that is predicted, nor others
    of its time.
    """

    table: RateTable
    column: int
    of_first: bool = False
    """Whether it is said of the first event of each sample itself; then of no other."""
    reads: tuple[str, ...] = ("item", "timestamp")

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        """See `models.data.origins.Origin.fill`."""
        assert samples.offsets is not None
        table = self.table
        _read(
            out,
            samples.events["item"],
            samples.events["timestamp"],
            samples.starts,
            samples.event,
            samples.last_target,
            samples.offsets,
            table.values.values,
            table.values.offsets,
            table.begin,
            table.time,
            table.sums[self.column],
            samples.items_asked(),
            (self.of_first, samples.time_known),
        )


@compiled
def _read(
    out: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    starts: np.ndarray,
    event: np.ndarray,
    last_target: np.ndarray,
    bounds: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    begins: np.ndarray,
    times: np.ndarray,
    sums: np.ndarray,
    asked: np.ndarray,
    how: tuple[bool, bool],
) -> None:
    of_first, time_known = how
    for sequence in range(len(starts) - 1):
        begin, end = starts[sequence], starts[sequence + 1]
        for token in range(begin, end):
            if of_first and token > begin:
                out[token] = 0.0
                continue
            place = event[token - starts[0]]
            if of_first:
                target = place
                opened = bounds[np.searchsorted(bounds, place, side="right") - 1]
                # Of time unknown the event before says when; the first one of all has none.
                now = time[place] if time_known or place == opened else time[place - 1]
            else:
                target = event[token - starts[0] + 1] if token + 1 < end else last_target[sequence]
                now = time[target] if time_known else time[place]
            wanted = item[target]
            if (of_first or token + 1 == end) and asked[sequence] >= 0:
                wanted = asked[sequence]
            first, last = offsets[wanted], offsets[wanted + 1]
            total = 0.0
            for value in values[first:last]:
                low, high = begins[value], begins[value + 1]
                found = low + np.searchsorted(times[low:high], now, side="left")
                if found > low:
                    total += sums[found - 1]
            out[token] = total / max(last - first, 1)
