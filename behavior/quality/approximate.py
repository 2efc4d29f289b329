"""Approximate entropy of sequences of ids."""

from __future__ import annotations

import numpy as np

from behavior.quality.windows import count_windows, longest_of, slots_for
from behavior.runtime import scratch
from behavior.runtime.compiled import compiled


def approximate_entropy(offsets: np.ndarray, items: np.ndarray, m: int = 2) -> np.ndarray:
    """Approximate entropy of each sequence under exact match (Pincus 1991; arXiv 2412.00430).

    `Phi^m` is the mean over windows of m events of `ln(share of windows equal to it)`, and
    `ApEn = Phi^m - Phi^(m+1)`, in nats. Ids have no metric: the tolerance is below 1, so that windows are at
    distance 0 or do not match. Where no item repeats it is `ln((n - m) / (n - m + 1))`: the length alone.
    Equal windows are counted in a hash table: time is linear in the number of events.

    Args:
        offsets: [users + 1] int64
        items: codes of the items. [events] int32 or int64
        m: events of a window, from 1.

    Returns:
        [users] float64, NaN for sequences of m events or fewer.
    """
    longest = longest_of(offsets)
    slots = scratch.empty(slots_for(longest), np.int32)
    slots.fill(-1)
    counts, shorter, longer = (scratch.empty(longest + 1, np.int32) for _ in range(3))
    result = np.full(len(offsets) - 1, np.nan)
    # To the compiler, arrays that may be written to are of another type: codes come in both.
    items = items.view()
    items.flags.writeable = False
    _entropies(offsets, items, m, slots, counts, shorter, longer, result)
    return result


@compiled
def _entropies(
    offsets: np.ndarray,
    items: np.ndarray,
    m: int,
    slots: np.ndarray,
    counts: np.ndarray,
    shorter: np.ndarray,
    longer: np.ndarray,
    result: np.ndarray,
) -> None:
    """`approximate_entropy`, in the working space that is given; see `count_windows`."""
    for user in range(len(result)):
        begin = offsets[user]
        n = offsets[user + 1] - begin
        if n <= m:
            continue
        # A pair is known by its first occurrence, a triple by that of its first pair and its last item; a
        # window of one event by the item's code.
        for event in range(n):
            longer[event] = items[begin + event]
        alike, events = 0.0, 0 if m == 1 else 1
        while True:
            before, windows = alike, n - events
            shorter, longer = longer, shorter
            alike = count_windows(shorter, items, begin + events, windows, slots, counts, longer)
            events += 1
            if events == m + 1:
                phi = before / (windows + 1) - np.log(windows + 1)
                result[user] = phi - (alike / windows - np.log(windows))
                break
