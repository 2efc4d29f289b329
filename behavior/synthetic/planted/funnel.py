"""A funnel: of what a user looked at, that is bought which was put into the cart."""

from __future__ import annotations

import numpy as np

from behavior.synthetic.planted.log import PlantedLog, events_of, item_names, mixed


def funnel(
    seed: int = 0, *, users: int = 300, items: int = 40, rounds: int = 8, looks: int = 4, noise: float = 0.05
) -> PlantedLog:
    """Rounds of `looks` different items, one of which, at a random place, is carted, then bought.

    Without behaviors all of a round are equally likely to be bought.

    Args:
        seed: of everything random.
        users: number of users.
        items: number of items.
        rounds: purchases of each user.
        looks: items viewed or carted in a round.
        noise: probability that any item is bought instead.
    """
    rng = np.random.default_rng([seed, 2])
    seen = np.argsort(rng.random((users, rounds, items)), axis=2)[:, :, :looks]
    place = rng.integers(looks, size=(users, rounds, 1))
    carted = np.take_along_axis(seen, place, axis=2)
    other = rng.random((users, rounds, 1)) < noise
    bought = np.where(other, rng.integers(items, size=other.shape), carted)
    item = np.concatenate([seen, bought], axis=2).reshape(users, -1)
    behavior = np.full((users, rounds, looks + 1), "view")
    np.put_along_axis(behavior, place, "cart", axis=2)
    behavior[:, :, -1] = "buy"
    return PlantedLog(
        "funnel",
        events_of(item_names(items)[item], behavior=behavior.reshape(users, -1)),
        bought[:, -1, 0],
        mixed(carted[:, -1, 0], noise, items),
        spec={"behaviors": ["view", "cart", "buy"], "targets": ["buy"]},
    )
