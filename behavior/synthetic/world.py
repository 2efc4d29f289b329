"""The planted world: who likes what, and how it shows.

The process, for one user (`c` is the configuration, `g` the persona, `z` the interest):

- `g` is drawn evenly, the first `z` from the weights of `g`.
- Every later event begins a new session with probability `c.session_break`. Its time tells: a gap of
  `c.session_gap` seconds or more is a new session. Gaps depend on nothing else.
- At an event, `z` changes with probability `c.switch_at_break` where a session begins and
  `c.switch_in_session` elsewhere: with probability `c.drift` to the next interest in the cycle of `g`,
  otherwise to another one by weight.
- The behavior is drawn by `c.behavior_shares`, whatever happened before. This is on purpose: neither a
  behavior nor which event happens to be the last of its kind tells anything about the latent state.
- An item is *open* at a step of the funnel if, in the last `c.funnel_window` events of this session, the
  last behavior on it was that step. A behavior beyond the first takes an open item of the step before with
  probability `c.funnel` if there is one, by weight `c.funnel_recency ** age`, times `c.funnel_mismatch` where
  the item is not of interest `z`. (Where that leaves no weight at all, the open items are equally likely.)
- Otherwise the item is fresh: drawn from the overall popularity (`c.noise`), the successor of the user's last
  item (`c.follow`, only within a session), or drawn from interest `z`.

One event shows the interest dimly: popular items belong to several interests, and noise comes from all.
Several events together show it well, which is what sequence models are for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from behavior.synthetic.config import SyntheticConfig

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# How much an item's rank differs between its interests, in standard deviations of its overall appeal.
_RANK_NOISE = 0.5


class World(NamedTuple):
    """The planted parameters. A named tuple, since Numba takes one as it is.

    Interest `k` offers `interest_items[interest_offsets[k]:interest_offsets[k + 1]]`, the most popular first;
    item `i` belongs to `item_interests[item_offsets[i]:item_offsets[i + 1]]`, its main interest first.
    """

    interest_offsets: Ints  # [interests + 1]
    interest_items: Ints  # [memberships]
    interest_probability: Floats  # [memberships], sums to 1 within an interest
    interest_cumulative: Floats  # [memberships], within an interest
    item_offsets: Ints  # [items + 1]
    item_interests: Ints  # [memberships]
    item_probability: Floats  # [memberships], P(item | interest)
    popularity: Floats  # [items], sums to 1
    popularity_cumulative: Floats  # [items]
    successor: Ints  # [items]
    item_domain: Ints  # [items]
    persona_interests: Ints  # [personas, slots]
    persona_weights: Floats  # [personas, slots], each row sums to 1
    switch: Floats  # [personas, slots, slots], where to, given that the interest changes
    behavior_shares: Floats  # [behaviors]
    noise: float
    follow: float
    funnel: float
    funnel_window: int
    funnel_recency: float
    funnel_mismatch: float
    switch_in_session: float
    switch_at_break: float
    session_break: float


def build_world(config: SyntheticConfig, rng: np.random.Generator) -> World:
    """Draw the planted parameters of a configuration."""
    memberships = _memberships(config, rng)
    item_offsets = np.cumsum([0, *(len(row) for row in memberships)])
    item_interests = np.concatenate(memberships)
    interest_offsets, interest_items, interest_probability, item_probability = _offers(
        config, item_offsets, item_interests, rng
    )
    each = np.split(interest_probability, interest_offsets[1:-1])
    persona_interests, persona_weights, switch = _personas(config, rng)
    total = np.bincount(persona_interests.ravel(), persona_weights.ravel(), config.interests)
    # Interests that no persona has still have items; these get a little of the overall popularity.
    prevalence = (total / config.personas + 0.1 / config.interests) / 1.1
    popularity = np.add.reduceat(item_probability * prevalence[item_interests], item_offsets[:-1])
    main = item_interests[item_offsets[:-1]]
    return World(
        interest_offsets=interest_offsets,
        interest_items=interest_items,
        interest_probability=interest_probability,
        interest_cumulative=np.concatenate([np.cumsum(one) for one in each]),
        item_offsets=item_offsets,
        item_interests=item_interests,
        item_probability=item_probability,
        popularity=popularity,
        popularity_cumulative=np.cumsum(popularity),
        successor=_successors(main, rng),
        item_domain=main % config.domains,
        persona_interests=persona_interests,
        persona_weights=persona_weights,
        switch=switch,
        behavior_shares=np.array(config.behavior_shares, dtype=np.float64),
        noise=config.noise,
        follow=config.follow,
        funnel=config.funnel,
        funnel_window=config.funnel_window,
        funnel_recency=config.funnel_recency,
        funnel_mismatch=config.funnel_mismatch,
        switch_in_session=config.switch_in_session,
        switch_at_break=config.switch_at_break,
        session_break=config.session_break,
    )


def _memberships(config: SyntheticConfig, rng: np.random.Generator) -> list[Ints]:
    """The interests of each item, the main one first. Interest `k` belongs to domain `k % domains`."""
    mains = rng.permutation(np.arange(config.items) % config.interests)
    rows = []
    for main in mains:
        others = np.arange(main % config.domains, config.interests, config.domains)
        others = others[others != main]
        extra = rng.permutation(others)[: config.interests_per_item - 1]
        rows.append(np.concatenate([[main], extra]).astype(np.int64))
    return rows


def _offers(
    config: SyntheticConfig, item_offsets: Ints, item_interests: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints, Floats, Floats]:
    """Rank the items of each interest and give them Zipf's probabilities, seen from either side."""
    items = np.repeat(np.arange(config.items), np.diff(item_offsets))
    appeal = rng.normal(size=config.items)[items] + _RANK_NOISE * rng.normal(size=len(items))
    order = np.lexsort((-appeal, item_interests))
    offsets = np.cumsum([0, *np.bincount(item_interests, minlength=config.interests)])
    ranks = np.arange(len(items)) - offsets[item_interests[order]] + 1
    weights = ranks ** -float(config.zipf)
    totals = np.add.reduceat(weights, offsets[:-1])
    probability = weights / totals[item_interests[order]]
    return offsets, items[order], probability, _scatter(probability, order)


def _scatter(values: Floats, order: Ints) -> Floats:
    result = np.empty_like(values)
    result[order] = values
    return result


def _personas(config: SyntheticConfig, rng: np.random.Generator) -> tuple[Ints, Floats, Floats]:
    """Each persona's interests in the order of its cycle, their weights, and the matrix of changes."""
    slots = config.interests_per_persona
    interests = np.stack([rng.permutation(config.interests)[:slots] for _ in range(config.personas)])
    weights = rng.permuted(np.tile(np.arange(1, slots + 1) ** -0.7, (config.personas, 1)), axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    if slots == 1:
        return interests, weights, np.ones((config.personas, 1, 1))
    others = np.repeat(weights[:, None, :], slots, axis=1) * (1 - np.eye(slots))
    others /= others.sum(axis=2, keepdims=True)
    following = np.roll(np.eye(slots), 1, axis=1)
    return interests, weights, config.drift * following + (1 - config.drift) * others


def _successors(main: Ints, rng: np.random.Generator) -> Ints:
    """A random cycle through the items of each main interest."""
    successor = np.empty(len(main), dtype=np.int64)
    for interest in np.unique(main):
        cycle = rng.permutation(np.flatnonzero(main == interest))
        successor[cycle] = np.roll(cycle, -1)
    return successor
