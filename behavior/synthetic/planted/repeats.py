"""Repeat purchases: what a user had before comes back, the sooner the more recent it is."""

from __future__ import annotations

import numpy as np

from behavior.synthetic.planted.log import Floats, Ints, PlantedLog, events_of, item_names


def repeats(
    seed: int = 0,
    *,
    users: int = 300,
    items: int = 3000,
    length: int = 24,
    fresh: float = 0.25,
    decay: float = 0.8,
) -> PlantedLog:
    """An event repeats the item of the event j before it with a probability that falls as decay^j.

    Items are nearly as many as there are events, so that nothing can be learned about any of them.

    Args:
        seed: of everything random.
        users: number of users.
        items: number of items.
        length: events of each user.
        fresh: probability of an item drawn evenly from all instead.
        decay: of the weights of past events.
    """
    rng = np.random.default_rng([seed, 1])
    item = np.empty((users, length), np.int64)
    item[:, 0] = rng.integers(items, size=users)
    for place in range(1, length):
        again = rng.random(users) >= fresh
        weights = decay ** np.arange(place)[::-1]
        source = rng.choice(place, size=users, p=weights / weights.sum())
        item[:, place] = np.where(again, item[np.arange(users), source], rng.integers(items, size=users))
    chance = _chances(item[:, :-1], items, fresh, decay)
    return PlantedLog("repeats", events_of(item_names(items)[item]), item[:, -1], chance)


def _chances(history: Ints, items: int, fresh: float, decay: float) -> Floats:
    users, length = history.shape
    chance = np.full((users, items), fresh / items)
    weights = decay ** np.arange(length)[::-1]
    weights *= (1.0 - fresh) / weights.sum()
    np.add.at(chance, (np.arange(users)[:, None], history), weights)
    return chance
