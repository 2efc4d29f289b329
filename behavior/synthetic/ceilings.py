"""How well a ranker can do at best on a synthetic log.

Protocol: leave one out. The target is a user's last event of the target behavior; users with fewer than 3
events or fewer than 2 targets are left out. Candidates are all items that occur in the log; the rank is 1 +
the number of other candidates that score at least as high as the target. Nothing is removed from the ranking.

Every ranker here orders the items by their exact probability, given what it knows, of being the item of the
target event. No other order has a higher expected NDCG or HR, since the gain falls with the rank. All know
the planted parameters and every event before the target, and besides:

- `latent`: the interest at the target event, its time, its behavior. Out of reach for any model.
- `history`: the time and the behavior of the target event; the interest is inferred by Bayes' rule. The
  ceiling of models that see the log, are told the time, and predict the target behavior.
- `history_and_user`: the same and the user's feature.
- `history_time_unknown`: the behavior only. The ceiling where the time of the target is hidden.
- `history_behavior_unknown`: the time only; the next event may be any. The ceiling of models that are trained
  to predict every next event alike.

That the target is the *last* of its kind tells nothing about its item: behaviors are drawn independently of
everything else.
"""

from __future__ import annotations

import numpy as np

from behavior.errors import UserError
from behavior.synthetic.config import SyntheticConfig
from behavior.synthetic.kernels import add_scores, filter_states, interests_after
from behavior.synthetic.log import SyntheticLog
from behavior.synthetic.world import Floats, Ints

RANKERS = ("latent", "history", "history_and_user", "history_time_unknown", "history_behavior_unknown")
_K = 10


def ceilings(log: SyntheticLog) -> dict[str, dict[str, float] | int]:
    """NDCG@10 and HR@10 of each ranker above, means over the evaluated users.

    Returns:
        `{"latent": {"ndcg@10": ..., "hr@10": ...}, "history": ..., ..., "users": evaluated users}`

    Raises:
        UserError: no user has enough events.
    """
    targets = target_events(log)
    users = np.flatnonzero(targets >= 0)
    if not len(users):
        raise UserError("no user has 3 events and 2 targets", fix="raise mean_events")
    candidates = np.bincount(log.trace.item, minlength=log.config.items) > 0
    result: dict[str, dict[str, float] | int] = {}
    for ranker in RANKERS:
        ranks = np.empty(len(users), dtype=np.int64)
        for row, user in enumerate(users):
            scores = predictive(log, int(user), int(targets[user]), ranker)
            target = log.trace.item[targets[user]]
            # The target counts itself, which is the 1 of the rank.
            ranks[row] = np.count_nonzero(scores[candidates] >= scores[target])
        hits = ranks <= _K
        result[ranker] = {
            f"ndcg@{_K}": float(np.mean(hits / np.log2(1.0 + ranks))),
            f"hr@{_K}": float(np.mean(hits)),
        }
    result["users"] = len(users)
    return result


def target_events(log: SyntheticLog) -> Ints:
    """Index into the trace of each user's test target, -1 where the user is not evaluated; [users]."""
    trace = log.trace
    is_target = trace.behavior == len(log.config.behaviors) - 1
    seen = np.concatenate([[0], np.cumsum(is_target)])
    lengths = np.diff(trace.offsets)
    counts = seen[trace.offsets[1:]] - seen[trace.offsets[:-1]]
    positions = np.append(np.flatnonzero(is_target), -1)
    last = positions[seen[trace.offsets[1:]] - 1]
    return np.where((lengths >= 3) & (counts >= 2), last, -1)


def predictive(log: SyntheticLog, user: int, event: int, ranker: str = "history") -> Floats:
    """What a ranker believes: P(item of the event | what it knows); [items] in the order of `log.items`.

    Args:
        user: row of the user in `log.users`.
        event: index into `log.trace`, one of the user's but not the first.
        ranker: one of `RANKERS`; those that know the behavior know the target behavior, not the event's own.
    """
    world, trace, config = log.world, log.trace, log.config
    begin = int(trace.offsets[user])
    if not begin < event < trace.offsets[user + 1]:
        raise ValueError(f"event {event} is not one of user {user}'s, or is the first")
    prior = _persona_prior(config, int(trace.segment[user]) if ranker == "history_and_user" else -1)
    states, session = filter_states(world, prior, trace.item, trace.behavior, trace.new_session, begin, event)

    breaks = [(bool(trace.new_session[event]), 1.0)]
    if ranker == "history_time_unknown":
        breaks = [(True, world.session_break), (False, 1 - world.session_break)]
    last = len(config.behaviors) - 1
    steps = [(last, 1.0)]
    if ranker == "history_behavior_unknown":
        steps = list(enumerate(world.behavior_shares.tolist()))

    scores = np.zeros(config.items)
    for is_break, break_weight in breaks:
        if ranker == "latent":
            interests = np.zeros(config.interests)
            interests[trace.interest[event]] = 1.0
        else:
            change = world.switch_at_break if is_break else world.switch_in_session
            interests = interests_after(world, states, change)
        begins = event if is_break else session
        for step, weight in steps:
            past = (trace.item, trace.behavior, begins, event)
            add_scores(world, break_weight * weight, interests, step, *past, scores)
    return scores


def _persona_prior(config: SyntheticConfig, segment: int) -> Floats:
    """P(persona | segment of the user); [personas]."""
    even = np.full(config.personas, 1.0 / config.personas)
    if segment < 0:
        return even
    noisy = config.feature_noise * even
    noisy[segment] += 1.0 - config.feature_noise
    return noisy
