"""Inputs of an exported tower, padded by plain Python."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.models.shards import User

JUNK = 7
"""What stands behind the end of a history."""


def padded(
    people: Sequence[User], longest: int, width: int, *, at: int | None = None, behavior: int = 2
) -> dict[str, np.ndarray]:
    """The newest events of histories, and what is asked after each.

    Args:
        people: whose whole sequences are histories.
        longest: most events that the model sees.
        width: N of the batch.
        at: when the next event happens; None: when the last one did.
        behavior: that is wanted.
    """

    def rows(name: str) -> np.ndarray:
        newest = [list(getattr(person, name))[-longest:] for person in people]
        return np.array([row + [JUNK] * (width - len(row)) for row in newest], np.int64)

    return {
        "items": rows("item"),
        "behaviors": np.minimum(rows("behavior"), 2),
        "timestamps": rows("timestamp"),
        "lengths": np.array([min(longest, len(person.item)) for person in people], np.int64),
        "query_time": np.array([person.timestamp[-1] if at is None else at for person in people], np.int64),
        "behavior": np.full(len(people), behavior, np.int64),
    }
