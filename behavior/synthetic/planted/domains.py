"""A domain that borrows from another: what is bought in the shop follows from what was watched before."""

from __future__ import annotations

import numpy as np

from behavior.synthetic.planted.log import PlantedLog, events_of, item_names, mixed


def domains(
    seed: int = 0,
    *,
    users: int = 300,
    tastes: int = 30,
    films: int = 3,
    rounds: int = 6,
    watched: int = 3,
    noise: float = 0.05,
) -> PlantedLog:
    """Rounds of a taste drawn anew: films of that taste are watched, then the taste's item is bought.

    Purchases alone tell nothing of the next one.

    Args:
        seed: of everything random.
        users: number of users.
        tastes: number of tastes, and of items in the shop.
        films: films of each taste.
        rounds: purchases of each user.
        watched: films watched before each of them.
        noise: probability that any item is bought instead.
    """
    rng = np.random.default_rng([seed, 4])
    taste = rng.integers(tastes, size=(users, rounds, 1))
    film = taste * films + rng.integers(films, size=(users, rounds, watched))
    other = rng.random(taste.shape) < noise
    bought = np.where(other, rng.integers(tastes, size=taste.shape), taste)
    item = np.concatenate(
        [item_names(tastes * films, "film")[film], item_names(tastes, "item")[bought]], axis=2
    )
    domain = np.full(item.shape, "films")
    domain[:, :, -1] = "shop"
    behavior = np.where(domain == "shop", "buy", "watch")
    return PlantedLog(
        "domains",
        events_of(
            item.reshape(users, -1), behavior=behavior.reshape(users, -1), domain=domain.reshape(users, -1)
        ),
        bought[:, -1, 0],
        mixed(taste[:, -1, 0], noise, tastes),
        spec={"behaviors": ["watch", "buy"], "targets": ["buy"], "domains": ["films", "shop"]},
    )
