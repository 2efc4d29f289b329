"""A long cycle: everything comes back, but only after hundreds of events."""

from __future__ import annotations

import numpy as np

from behavior.synthetic.planted.log import PlantedLog, events_of, item_names, mixed


def cycle(
    seed: int = 0,
    *,
    users: int = 24,
    items: int = 16,
    period: int = 520,
    length: int = 1200,
    noise: float = 0.05,
) -> PlantedLog:
    """An event is what the user did `period` events before; the first of them are drawn evenly.

    Args:
        seed: of everything random.
        users: number of users.
        items: number of items.
        period: events from one time to the next.
        length: events of each user, more than the period.
        noise: probability of any item instead.
    """
    rng = np.random.default_rng([seed, 5])
    item = rng.integers(items, size=(users, length))
    for place in range(period, length):
        other = rng.random(users) < noise
        item[:, place] = np.where(other, item[:, place], item[:, place - period])
    chance = mixed(item[:, -1 - period], noise, items)
    return PlantedLog("cycle", events_of(item_names(items)[item]), item[:, -1], chance)
