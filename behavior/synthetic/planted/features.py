"""Items told apart by features: the next one is of the next category and of the same brand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.synthetic.planted.log import PlantedLog, events_of, item_names, mixed


def features(
    seed: int = 0,
    *,
    users: int = 300,
    categories: int = 40,
    brands: int = 40,
    length: int = 6,
    noise: float = 0.05,
) -> PlantedLog:
    """One item for each category and brand; a user stays with a brand and goes from category to category.

    There are hardly more events than items, so that few have been seen to follow each other.

    Args:
        seed: of everything random.
        users: number of users.
        categories: number of categories, gone through in a cycle.
        brands: number of brands.
        length: events of each user.
        noise: probability that any item follows instead.
    """
    rng = np.random.default_rng([seed, 3])
    items = categories * brands
    item = np.empty((users, length), np.int64)
    item[:, 0] = rng.integers(items, size=users)
    following = np.arange(items) // brands
    following = (following + 1) % categories * brands + np.arange(items) % brands
    for place in range(1, length):
        other = rng.random(users) < noise
        item[:, place] = np.where(other, rng.integers(items, size=users), following[item[:, place - 1]])
    # Ids and names of categories tell nothing.
    names = item_names(items)[rng.permutation(items)]
    category = item_names(categories, "category")[rng.permutation(categories)]
    table = pa.table(
        {
            "item": names,
            "category": category[np.arange(items) // brands],
            "brand": item_names(brands, "brand")[np.arange(items) % brands],
        }
    )
    return PlantedLog(
        "features",
        events_of(names[item]),
        item[:, -1],
        mixed(following[item[:, -2]], noise, items),
        items=table,
        spec={
            "items": {
                "files": "items.csv",
                "id": "item",
                "features": [{"name": "category"}, {"name": "brand"}],
            }
        },
    )
