"""Directed co-occurrence in plain Python, float64, one pair of events after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

Log = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Of each user, items (-1: unknown) and times of all events."""


def counted(log: Log, table: str, window: int, backward: float, seconds: int) -> dict[tuple[int, int], float]:
    """Counts above 0 by (item, follower)."""
    counts: dict[tuple[int, int], float] = {}
    for items, times in log:
        for early, item in enumerate(items):
            for late, other in enumerate(items):
                distance = late - early
                if not 0 < distance < window or item < 0 or other < 0 or item == other:
                    continue
                apart = times[late] - times[early]
                if table == "session":
                    near = 1 / math.sqrt(distance) if apart <= 1 else 1 / distance
                    along = against = near if apart <= seconds else 0.0
                else:
                    along = 1 / distance if table in ("both", "forward") else 0.0
                    against = {"both": backward, "forward": 0.0, "backward": 1.0}[table] / distance
                counts[item, other] = counts.get((item, other), 0.0) + along
                counts[other, item] = counts.get((other, item), 0.0) + against
    return {pair: count for pair, count in counts.items() if count}
