"""Compiled loops of floors: the events of a history vote for items, and targets are ranked among them.

The order of items is: votes, then popularity. Only items that have votes are looked at one by one; of all
others a table says how many are at least as popular as the target.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from behavior.runtime.compiled import compiled

NONE, LATEST, DECAYED, OPEN = range(4)
"""How a history votes for its own items: not at all; each once, the newest highest; each time, older events
less; as the second, by open events only."""

ABOVE = float(1 << 40)
"""What own items have that stand before whatever others vote for: above any sum of counts, and yet so low
that places in a history are told apart."""


class Histories(NamedTuple):
    """Which events vote, a history a query.

    Attributes:
        item: [events] item ids.
        behavior: [events] behavior ids.
        begin, stop: [queries] where each history begins and ends in them.
        first_item: the smallest id of a known item; votes are for items numbered from it.
    """

    item: np.ndarray
    behavior: np.ndarray
    begin: np.ndarray
    stop: np.ndarray
    first_item: int


class Own(NamedTuple):
    """How a history votes for its own items.

    Attributes:
        kind: `NONE`, `LATEST`, `DECAYED` or `OPEN`.
        decay: DECAYED: what a vote weighs relative to one of the next newer event.
        is_target: [behavior ids] OPEN: whether a behavior is a target.
    """

    kind: int
    decay: float
    is_target: np.ndarray


class Followers(NamedTuple):
    """How a history votes for what follows its items elsewhere.

    Attributes:
        offsets: [item ids + 1] where the followers of each item begin.
        follower: [pairs] numbers of items.
        weight: [pairs] what each counts, above 0.
        window: how many of the newest events vote.
        decay: what a vote weighs relative to one of the next newer event.
    """

    offsets: np.ndarray
    follower: np.ndarray
    weight: np.ndarray
    window: int
    decay: float


class Asked(NamedTuple):
    """What is ranked.

    Attributes:
        first: [queries + 1] where the targets of each query begin.
        item: [targets] numbers of items; negative: not known.
        excluded_first: [targets + 1] where the items left out of each target's rivals begin.
        excluded: [pairs] numbers of these items; they may repeat.
    """

    first: np.ndarray
    item: np.ndarray
    excluded_first: np.ndarray
    excluded: np.ndarray


class Rest(NamedTuple):
    """The candidates, and the order of those without votes.

    Attributes:
        popularity: [items] events; the first ones are candidates.
        member: [catalogs, candidates] bool: whether an item is in a catalog.
        at_least: [catalogs, candidates] items of the catalog that are at least as popular, itself counted.
        catalog: [queries] whose items are candidates.
    """

    popularity: np.ndarray
    member: np.ndarray
    at_least: np.ndarray
    catalog: np.ndarray


@compiled
def votes_of(
    query: int,
    histories: Histories,
    own: Own,
    followers: Followers,
    score: np.ndarray,
    touched: np.ndarray,
    met: np.ndarray,
    closed: np.ndarray,
) -> int:
    """The votes of a history.

    Args:
        query: whose history.
        histories, own, followers: what votes, and how.
        score: [items] float64; on return the votes of the items that have any.
        touched: [items] on return the items that have votes, in front.
        met: [items] int32, another number than `query + 1` everywhere; marks items that have votes.
        closed: [items] int32, likewise; marks items with a target behavior.

    Returns:
        How many items have votes.
    """
    item, behavior, first_item = histories.item, histories.behavior, histories.first_item
    begin, stop = histories.begin[query], histories.stop[query]
    mark, count = query + 1, 0
    if own.kind == OPEN:
        for event in range(begin, stop):
            if item[event] >= first_item and own.is_target[behavior[event]]:
                closed[item[event] - first_item] = mark
    if own.kind != NONE:
        weight = 1.0
        for event in range(stop - 1, begin - 1, -1):
            number = item[event] - first_item
            if number >= 0 and not (own.kind == OPEN and closed[number] == mark):
                if met[number] != mark:
                    met[number] = mark
                    touched[count] = number
                    count += 1
                    score[number] = weight if own.kind == DECAYED else ABOVE + (event - begin)
                elif own.kind == DECAYED:
                    score[number] += weight
            weight *= own.decay
    weight = 1.0
    for event in range(stop - 1, max(begin, stop - followers.window) - 1, -1):
        for place in range(followers.offsets[item[event]], followers.offsets[item[event] + 1]):
            number = followers.follower[place]
            if met[number] != mark:
                met[number] = mark
                touched[count] = number
                count += 1
                score[number] = 0.0
            if score[number] < ABOVE:
                score[number] += weight * followers.weight[place]
        weight *= followers.decay
    return count


@compiled
def rank_by_votes(
    first: int,
    stop: int,
    histories: Histories,
    own: Own,
    followers: Followers,
    asked: Asked,
    rest: Rest,
    ranks: np.ndarray,
) -> None:
    """Rank the targets of the queries `first` to `stop`: 1 plus the rivals with as many votes and as popular.

    Args:
        histories, own, followers: what votes, and how.
        asked: what is ranked.
        rest: the candidates.
        ranks: [targets] float64; on return those of the targets. Infinite where a target is no candidate.
    """
    candidates, popularity, items = rest.member.shape[1], rest.popularity, len(rest.popularity)
    score, touched = np.zeros(items), np.zeros(items, np.int32)
    met, closed = np.zeros(items, np.int32), np.zeros(items, np.int32)
    left_out = np.full(items, -1, np.int64)
    for query in range(first, stop):
        count = votes_of(query, histories, own, followers, score, touched, met, closed)
        catalog = rest.catalog[query]
        member, at_least = rest.member[catalog], rest.at_least[catalog]
        for target in range(asked.first[query], asked.first[query + 1]):
            number = asked.item[target]
            ranks[target] = np.inf
            if number < 0:
                continue
            has_votes = met[number] == query + 1
            votes, events = score[number] if has_votes else 0.0, popularity[number]
            # Rivals with votes, and, where the target has none, those without.
            ahead = 0 if votes > 0 else at_least[number] - (member[number] and not has_votes)
            for place in range(count):
                rival = touched[place]
                if rival < candidates and member[rival]:
                    as_popular = popularity[rival] >= events
                    if rival != number and (score[rival] > votes or (score[rival] == votes and as_popular)):
                        ahead += 1
                    if votes == 0 and as_popular:  # counted with those that have none
                        ahead -= 1
            missing = False
            for pair in range(asked.excluded_first[target], asked.excluded_first[target + 1]):
                rival = asked.excluded[pair]
                missing |= rival == number
                if rival < candidates and member[rival] and left_out[rival] != target:
                    left_out[rival] = target
                    theirs = score[rival] if met[rival] == query + 1 else 0.0
                    if rival != number and (
                        theirs > votes or (theirs == votes and popularity[rival] >= events)
                    ):
                        ahead -= 1
            if not missing:
                ranks[target] = 1 + ahead
