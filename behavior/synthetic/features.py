"""Ids and side information of the planted items and users, noisy hints at the latent structure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from behavior.synthetic.config import SyntheticConfig
from behavior.synthetic.titles import item_titles
from behavior.synthetic.world import Ints, World

_TAGS_PER_INTEREST = 3


def item_ids(config: SyntheticConfig, rng: np.random.Generator) -> pa.Array:
    """Ids such as `item-00042`, at random, so that nothing can be read from them; [items]."""
    width = max(5, len(str(config.items)))
    return pa.array([f"item-{n:0{width}d}" for n in rng.permutation(config.items)])


def user_ids(config: SyntheticConfig, rng: np.random.Generator) -> pa.Array:
    """Ids from 100000 at random; [users], int64."""
    return pa.array(100_000 + rng.permutation(config.users))


def user_segments(config: SyntheticConfig, persona: Ints, rng: np.random.Generator) -> Ints:
    """The persona; any for `feature_noise` of the users, -1 (missing) for `missing` of them; [users]."""
    random = rng.integers(config.personas, size=len(persona))
    segment = np.where(rng.random(len(persona)) < config.feature_noise, random, persona)
    return np.where(rng.random(len(persona)) < config.missing, -1, segment)


def user_table(segment: Ints, users: pa.Array) -> pa.Table:
    """One row a user: user, segment."""
    names = [None if s < 0 else f"segment-{s + 1:02d}" for s in segment]
    return pa.table({"user": users, "segment": pa.array(names, pa.string())})


def item_table(config: SyntheticConfig, world: World, items: pa.Array, rng: np.random.Generator) -> pa.Table:
    """One row an item: item, category (main interest), tags (all interests), price (main interest), title."""
    main = world.item_interests[world.item_offsets[:-1]]
    noisy = rng.random(config.items) < config.feature_noise
    category = np.where(noisy, rng.integers(config.interests, size=config.items), main)
    level = rng.normal(3.0, 1.0, config.interests)
    price = np.round(np.exp(level[main] + 0.3 * rng.normal(size=config.items)), 2)
    missing = rng.random((3, config.items)) < config.missing
    return pa.table(
        {
            "item": items,
            "category": pa.array([f"category-{k + 1:02d}" for k in category], mask=missing[0]),
            "tags": pa.array(_tags(config, world, rng), mask=missing[1], type=pa.list_(pa.string())),
            "price": pa.array(price, mask=missing[2]),
            "title": item_titles(world),
        }
    )


def _tags(config: SyntheticConfig, world: World, rng: np.random.Generator) -> list[list[str]]:
    """One tag for each interest of the item, out of the interest's own few; some replaced by any tag."""
    pool = config.interests * _TAGS_PER_INTEREST
    tag = world.item_interests * _TAGS_PER_INTEREST + rng.integers(
        _TAGS_PER_INTEREST, size=len(world.item_interests)
    )
    noisy = rng.random(len(tag)) < config.feature_noise
    tag = np.where(noisy, rng.integers(pool, size=len(tag)), tag)
    rows = np.split(tag, world.item_offsets[1:-1])
    return [[f"tag-{t + 1:03d}" for t in dict.fromkeys(row.tolist())] for row in rows]
