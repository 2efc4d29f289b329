"""The compiled inner loops: drawing events, filtering the latent state, scoring all items.

They stay in one file because Numba's cache does not notice changes in another one. All of them follow
the process told in `behavior/synthetic/world.py`; `states` are `[personas, slots]` probabilities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from behavior.runtime.compiled import compiled
from behavior.synthetic.world import Floats, Ints, World

Bools = NDArray[np.bool_]


@compiled
def _draw(rng: np.random.Generator, cumulative: Floats) -> int:
    """A draw from the distribution whose running sums are given; they need not end at 1."""
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return min(drawn, len(cumulative) - 1)


@compiled
def _belongs(world: World, item: int, interest: int) -> bool:
    for m in range(world.item_offsets[item], world.item_offsets[item + 1]):
        if world.item_interests[m] == interest:
            return True
    return False


@compiled
def _open_items(
    world: World, item: Ints, behavior: Ints, session: int, event: int, step: int, opened: Ints
) -> int:
    """Write the events that left an item open at `step` just before `event` to `opened`; returns how many."""
    count = 0
    for j in range(event - 1, max(session, event - world.funnel_window) - 1, -1):
        touched_later = False
        for later in range(j + 1, event):
            if item[later] == item[j]:
                touched_later = True
        if not touched_later and behavior[j] == step:
            opened[count] = j
            count += 1
    return count


@compiled
def _open_weight(world: World, item: int, age: int, interest: int) -> float:
    weight = world.funnel_recency ** np.float64(age)
    return weight if _belongs(world, item, interest) else weight * world.funnel_mismatch


@compiled
def _funnel_share(
    world: World, interest: int, chosen: int, item: Ints, event: int, opened: Ints, count: int
) -> float:
    """P(item `chosen` | one of the open items is taken, interest)."""
    total, wanted = 0.0, 0.0
    for o in range(count):
        weight = _open_weight(world, item[opened[o]], event - 1 - opened[o], interest)
        total += weight
        if item[opened[o]] == chosen:
            wanted += weight
    # Where every weight is 0 the open items are equally likely.
    if total == 0.0:
        return np.float64(np.sum(item[opened[:count]] == chosen)) / count
    return wanted / total


@compiled
def draw_items(
    world: World,
    rng: np.random.Generator,
    offsets: Ints,
    behavior: Ints,
    new_session: Bools,
    persona: Ints,
) -> tuple[Ints, Ints]:
    """Draw the interest and the item of every event; both [events]."""
    item = np.empty(len(behavior), dtype=np.int64)
    interest = np.empty(len(behavior), dtype=np.int64)
    opened = np.empty(world.funnel_window, dtype=np.int64)
    weights = np.empty(world.funnel_window)
    for user in range(len(offsets) - 1):
        g = persona[user]
        slot, session = 0, offsets[user]
        for t in range(offsets[user], offsets[user + 1]):
            first = t == offsets[user]
            if first:
                slot = _draw(rng, np.cumsum(world.persona_weights[g]))
            elif rng.random() < (world.switch_at_break if new_session[t] else world.switch_in_session):
                slot = _draw(rng, np.cumsum(world.switch[g, slot]))
            if new_session[t]:
                session = t
            z = world.persona_interests[g, slot]
            interest[t] = z
            count = 0
            if behavior[t] > 0:
                count = _open_items(world, item, behavior, session, t, behavior[t] - 1, opened)
            if count > 0 and rng.random() < world.funnel:
                for o in range(count):
                    weights[o] = _funnel_share(world, z, item[opened[o]], item, t, opened, count)
                item[t] = item[opened[_draw(rng, np.cumsum(weights[:count]))]]
                continue
            follow = 0.0 if t == session else world.follow
            u = rng.random()
            if u < world.noise:
                item[t] = _draw(rng, world.popularity_cumulative)
            elif u < world.noise + follow:
                item[t] = world.successor[item[t - 1]]
            else:
                begin, end = world.interest_offsets[z], world.interest_offsets[z + 1]
                item[t] = world.interest_items[begin + _draw(rng, world.interest_cumulative[begin:end])]
    return interest, item


@compiled
def _move(world: World, states: Floats, change: float) -> Floats:
    """The states one event later, where the interest changes with probability `change`."""
    moved = (1.0 - change) * states
    personas, slots = states.shape
    for g in range(personas):
        for a in range(slots):
            for b in range(slots):
                moved[g, b] += change * states[g, a] * world.switch[g, a, b]
    return moved


@compiled
def _likelihood(
    world: World, item: Ints, behavior: Ints, session: int, event: int, opened: Ints, result: Floats
) -> None:
    """Write P(item of `event` | its behavior, interest, history) to `result` [interests]."""
    chosen = item[event]
    count = 0
    if behavior[event] > 0:
        count = _open_items(world, item, behavior, session, event, behavior[event] - 1, opened)
    fresh = 1.0 - world.funnel if count > 0 else 1.0
    follow = 0.0 if event == session else world.follow
    base = world.noise * world.popularity[chosen]
    if follow > 0.0 and world.successor[item[event - 1]] == chosen:
        base += follow
    result[:] = fresh * base
    for m in range(world.item_offsets[chosen], world.item_offsets[chosen + 1]):
        result[world.item_interests[m]] += fresh * (1.0 - world.noise - follow) * world.item_probability[m]
    is_open = False
    for o in range(count):
        is_open = is_open or item[opened[o]] == chosen
    if is_open:
        for k in range(len(result)):
            result[k] += world.funnel * _funnel_share(world, k, chosen, item, event, opened, count)


@compiled
def filter_states(
    world: World, prior: Floats, item: Ints, behavior: Ints, new_session: Bools, begin: int, end: int
) -> tuple[Floats, int]:
    """The forward algorithm (Rabiner 1989, section III A, rescaled) over events `begin..end - 1`.

    Args:
        prior: [personas], before any event.

    Returns:
        P(persona, slot at event end - 1 | events), [personas, slots], and where the last session began.
        Without events, the distribution of the first slot.
    """
    personas, slots = world.persona_weights.shape
    opened = np.empty(world.funnel_window, dtype=np.int64)
    likelihood = np.empty(len(world.interest_offsets) - 1)
    states = world.persona_weights * prior.reshape(personas, 1)
    session = begin
    for t in range(begin, end):
        if t > begin:
            change = world.switch_at_break if new_session[t] else world.switch_in_session
            states = _move(world, states, change)
        if new_session[t]:
            session = t
        _likelihood(world, item, behavior, session, t, opened, likelihood)
        total = 0.0
        for g in range(personas):
            for s in range(slots):
                states[g, s] *= likelihood[world.persona_interests[g, s]]
                total += states[g, s]
        states /= total
    return states, session


@compiled
def add_scores(
    world: World,
    weight: float,
    interests: Floats,
    step: int,
    item: Ints,
    behavior: Ints,
    session: int,
    event: int,
    scores: Floats,
) -> None:
    """Add `weight * P(item of event | behavior step, history)` of all items to `scores` [items].

    Args:
        interests: P(interest at the event), [interests].
        session: where the session of the event began; `event` itself where it begins one.
    """
    opened = np.empty(world.funnel_window, dtype=np.int64)
    count = 0
    if step > 0:
        count = _open_items(world, item, behavior, session, event, step - 1, opened)
    fresh = weight * (1.0 - world.funnel if count > 0 else 1.0)
    follow = 0.0 if event == session else world.follow
    scores += fresh * world.noise * world.popularity
    if follow > 0.0:
        scores[world.successor[item[event - 1]]] += fresh * follow
    for k in range(len(interests)):
        share = fresh * (1.0 - world.noise - follow) * interests[k]
        if share > 0.0:
            for m in range(world.interest_offsets[k], world.interest_offsets[k + 1]):
                scores[world.interest_items[m]] += share * world.interest_probability[m]
        if interests[k] > 0.0:
            for o in range(count):
                chosen = item[opened[o]]
                taken = _funnel_share(world, k, chosen, item, event, opened, count)
                scores[chosen] += weight * world.funnel * interests[k] * taken


@compiled
def interests_after(world: World, states: Floats, change: float) -> Floats:
    """P(interest) [interests] one event later, where it changes with probability `change`."""
    moved = _move(world, states, change)
    result = np.zeros(len(world.interest_offsets) - 1)
    for g in range(moved.shape[0]):
        for s in range(moved.shape[1]):
            result[world.persona_interests[g, s]] += moved[g, s]
    return result
