"""The ceilings against enumeration of all latent paths, and against the generator itself."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.synthetic import SyntheticConfig, SyntheticLog, ceilings, generate, predictive
from behavior.synthetic.ceilings import RANKERS, target_events

TINY: dict[str, Any] = {
    "users": 3,
    "items": 7,
    "interests": 4,
    "personas": 2,
    "interests_per_persona": 3,
    "interests_per_item": 2,
    "mean_events": 6,
    "length_spread": 0.2,
    "min_events": 4,
    "max_events": 6,
    "behavior_shares": (0.4, 0.3, 0.3),
    "switch_in_session": 0.2,
    "session_break": 0.3,
    "funnel_window": 3,
    "missing": 0.0,
}


class Enumeration:
    """The process as `behavior/synthetic/world.py` tells it, in plain loops over every latent path."""

    def __init__(self, log: SyntheticLog, user: int) -> None:
        self.log, self.world, self.config = log, log.world, log.config
        begin, end = log.trace.offsets[user], log.trace.offsets[user + 1]
        self.items = log.trace.item[begin:end].tolist()
        self.behaviors = log.trace.behavior[begin:end].tolist()
        self.breaks = log.trace.new_session[begin:end].tolist()
        self.segment = int(log.trace.segment[user])
        self.item_probabilities = functools.cache(self._item_probabilities)

    def share(self, interest: int, item: int) -> float:
        """P(item | interest), 0 for an item of other interests."""
        first, last = self.world.interest_offsets[interest : interest + 2]
        offered = self.world.interest_items[first:last].tolist()
        return float(self.world.interest_probability[first + offered.index(item)]) if item in offered else 0.0

    def open_items(self, event: int, step: int, is_break: bool) -> dict[int, int]:
        """Open items at a step, with the number of events since."""
        last: dict[int, int] = {}
        if not is_break:
            session = max(t for t in range(event) if self.breaks[t])
            for t in range(max(session, event - self.config.funnel_window), event):
                last[self.items[t]] = t
        return {item: event - 1 - t for item, t in last.items() if self.behaviors[t] == step}

    def _item_probabilities(self, event: int, step: int, interest: int, is_break: bool) -> list[float]:
        config = self.config
        opened = self.open_items(event, step - 1, is_break)
        funnel = config.funnel if opened else 0.0
        weights = {
            item: config.funnel_recency**age * (1 if self.share(interest, item) else config.funnel_mismatch)
            for item, age in opened.items()
        }
        if opened and sum(weights.values()) == 0:
            weights = dict.fromkeys(opened, 1.0)
        follow = 0.0 if is_break else config.follow
        result = []
        for item in range(config.items):
            fresh = config.noise * self.world.popularity[item]
            fresh += (1 - config.noise - follow) * self.share(interest, item)
            if follow and self.world.successor[self.items[event - 1]] == item:
                fresh += follow
            taken = weights[item] / sum(weights.values()) if item in opened else 0.0
            result.append(funnel * taken + (1 - funnel) * fresh)
        return result

    def move(self, persona: int, slot: int, to: int, is_break: bool) -> float:
        change = self.config.switch_at_break if is_break else self.config.switch_in_session
        return change * self.world.switch[persona, slot, to] + (1 - change) * (slot == to)

    def scores(self, event: int, ranker: str) -> np.ndarray:
        """P(item of the event | what the ranker knows), by summing the joint probability over all paths."""
        config, world = self.config, self.world
        result = np.zeros(config.items)
        steps = {len(config.behaviors) - 1: 1.0}
        if ranker == "history_behavior_unknown":
            steps = dict(enumerate(config.behavior_shares))
        breaks = {self.breaks[event]: 1.0}
        if ranker == "history_time_unknown":
            breaks = {True: config.session_break, False: 1 - config.session_break}
        for persona in range(config.personas):
            prior = 1 / config.personas
            if ranker == "history_and_user":
                prior *= config.feature_noise / config.personas
                prior += (1 - config.feature_noise) / config.personas * (persona == self.segment)
            for path in itertools.product(range(config.interests_per_persona), repeat=event + 1):
                known = prior * world.persona_weights[persona, path[0]]
                for t in range(event):
                    if t:
                        known *= self.move(persona, path[t - 1], path[t], self.breaks[t])
                    interest = int(world.persona_interests[persona, path[t]])
                    given_interest = self.item_probabilities(t, self.behaviors[t], interest, self.breaks[t])
                    known *= given_interest[self.items[t]]
                interest = int(world.persona_interests[persona, path[event]])
                for (is_break, p), (step, q) in itertools.product(breaks.items(), steps.items()):
                    joint = known * p * q * self.move(persona, path[event - 1], path[event], is_break)
                    result += joint * np.array(self.item_probabilities(event, step, interest, is_break))
        return result / result.sum()


def shares() -> st.SearchStrategy[float]:
    return st.sampled_from([0.0, 0.1, 0.35, 0.8])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    seed=st.integers(0, 1000),
    noise=st.sampled_from([0.1, 0.35]),
    follow=st.sampled_from([0.0, 0.3]),
    funnel=shares(),
    mismatch=shares(),
    drift=shares(),
)
def test_predictions_equal_the_sum_over_all_latent_paths(
    seed: int, noise: float, follow: float, funnel: float, mismatch: float, drift: float
) -> None:
    changed: dict[str, Any] = {
        "seed": seed,
        "noise": noise,
        "follow": follow,
        "funnel": funnel,
        "drift": drift,
    }
    log = generate(SyntheticConfig(**TINY, **changed, funnel_mismatch=mismatch))
    for user in range(log.config.users):
        begin, end = log.trace.offsets[user : user + 2]
        slow = Enumeration(log, user)
        for ranker in RANKERS[1:]:
            expected = slow.scores(end - 1 - begin, ranker)
            np.testing.assert_allclose(
                predictive(log, user, end - 1, ranker), expected, rtol=1e-9, atol=1e-14
            )
        interest = int(log.trace.interest[end - 1])
        is_break = bool(log.trace.new_session[end - 1])
        latent = slow.item_probabilities(end - 1 - begin, 2, interest, is_break)
        np.testing.assert_allclose(predictive(log, user, end - 1, "latent"), latent, rtol=1e-9, atol=1e-14)


def test_metrics_follow_from_the_predictions() -> None:
    log = generate(SyntheticConfig(**{**TINY, "users": 40, "items": 60, "max_events": 20, "mean_events": 15}))
    found = ceilings(log)
    trace = log.trace
    occurring = set(trace.item.tolist())
    for ranker in RANKERS:
        ndcg, hits, users = 0.0, 0, 0
        for user in range(40):
            events = range(trace.offsets[user], trace.offsets[user + 1])
            targets = [t for t in events if trace.behavior[t] == 2]
            if len(targets) < 2:
                continue
            users += 1
            scores = predictive(log, user, targets[-1], ranker)
            wanted = trace.item[targets[-1]]
            rank = 1 + sum(scores[i] >= scores[wanted] for i in occurring - {wanted})
            ndcg += 1 / math.log2(1 + rank) if rank <= 10 else 0.0
            hits += rank <= 10
        assert found["users"] == users
        assert found[ranker] == pytest.approx({"ndcg@10": ndcg / users, "hr@10": hits / users})


def test_one_interest_without_noise_leaves_the_zipf_order() -> None:
    one = dict.fromkeys(("interests", "interests_per_persona", "interests_per_item", "personas"), 1)
    plain: dict[str, Any] = {
        "zipf": 1.0,
        "noise": 0.0,
        "follow": 0.0,
        "behaviors": ("click",),
        "behavior_shares": (1.0,),
    }
    log = generate(SyntheticConfig(users=3000, items=20, min_events=5, max_events=5, **one, **plain))
    weights = [1 / rank for rank in range(1, 21)]
    np.testing.assert_allclose(
        np.sort(predictive(log, 0, 4))[::-1], np.array(weights) / sum(weights), rtol=1e-12
    )
    found = ceilings(log)
    assert found["latent"] == found["history"] == found["history_behavior_unknown"]
    gains = [weight / math.log2(1 + rank) for rank, weight in enumerate(weights[:10], start=1)]
    expected = sum(gains) / sum(weights)
    deviation = 0.5 / math.sqrt(3000)
    assert abs(found["latent"]["ndcg@10"] - expected) < 4 * deviation  # type: ignore[index]


@pytest.fixture(scope="module")
def log() -> SyntheticLog:
    return generate(SyntheticConfig(users=1500, items=500, seed=3))


@pytest.mark.parametrize("ranker", RANKERS)
def test_predictions_are_calibrated(log: SyntheticLog, ranker: str) -> None:
    """What the ranker believes is what happens: its surprise equals its uncertainty, within chance."""
    targets = target_events(log)
    users = np.flatnonzero(targets >= 0)
    events = targets[users]
    if ranker == "history_behavior_unknown":
        events = log.trace.offsets[users + 1] - 1  # any event, not only target behaviors
    surprise, top_hit, variance, top_variance = 0.0, 0.0, 0.0, 0.0
    for user, event in zip(users, events, strict=True):
        belief = predictive(log, int(user), int(event), ranker)
        assert belief.sum() == pytest.approx(1.0)
        happened = log.trace.item[event]
        positive = belief[belief > 0]
        entropy = -(positive * np.log(positive)).sum()
        surprise += -math.log(belief[happened]) - entropy
        variance += (positive * np.log(positive) ** 2).sum() - entropy**2
        best = belief.max()
        top_hit += (happened == belief.argmax()) - best
        top_variance += best * (1 - best)
    assert abs(surprise) < 4 * math.sqrt(variance)
    assert abs(top_hit) < 4 * math.sqrt(top_variance)


def test_events_are_drawn_as_described() -> None:
    """Rare choices against their probability given the true interest: a slip here hardly shows in a mean."""
    log = generate(SyntheticConfig(users=150, items=40, interests=6, personas=6, follow=0.1, seed=5))
    happened, expected, variance = (dict.fromkeys(("mismatch", "oldest", "successor"), 0.0) for _ in range(3))

    def observe(what: str, probability: float, occurred: bool) -> None:
        happened[what] += occurred
        expected[what] += probability
        variance[what] += probability * (1 - probability)

    for user in range(150):
        begin, end = log.trace.offsets[user : user + 2]
        slow = Enumeration(log, user)
        for t in range(1, end - begin):
            interest, is_break, step = int(log.trace.interest[begin + t]), slow.breaks[t], slow.behaviors[t]
            probability = slow.item_probabilities(t, step, interest, is_break)
            opened = slow.open_items(t, step - 1, is_break)
            if len(opened) > 1:
                odd = [item for item in opened if slow.share(interest, item) == 0]
                observe("mismatch", sum(probability[item] for item in odd), slow.items[t] in odd)
                oldest = max(opened, key=opened.__getitem__)
                observe("oldest", probability[oldest], slow.items[t] == oldest)
            if is_break:
                successor = int(log.world.successor[slow.items[t - 1]])
                observe("successor", probability[successor], slow.items[t] == successor)
    for what in happened:
        assert variance[what] > 10
        assert abs(happened[what] - expected[what]) < 4 * math.sqrt(variance[what]), what


def markov_ndcg(log: SyntheticLog) -> float:
    """What followed the last item elsewhere before the test targets, then popularity; plain counting."""
    trace, targets = log.trace, target_events(log)
    size = log.config.items
    counts, popular = np.zeros((size, size)), np.zeros(size)
    for user in range(log.config.users):
        end = targets[user] if targets[user] >= 0 else trace.offsets[user + 1]
        part = trace.item[trace.offsets[user] : end]
        np.add.at(counts, (part[:-1], part[1:]), 1)
        np.add.at(popular, part, 1)
    gains = []
    for target in targets[targets >= 0]:
        scores = counts[trace.item[target - 1]] + popular / popular.sum()
        rank = np.count_nonzero(scores >= scores[trace.item[target]])
        gains.append(1 / math.log2(1 + rank) if rank <= 10 else 0.0)
    return float(np.mean(gains))


def test_more_knowledge_ranks_better(log: SyntheticLog) -> None:
    found = {name: value["ndcg@10"] for name, value in ceilings(log).items() if isinstance(value, dict)}
    assert 1 > found["latent"] > found["history"] > found["history_time_unknown"]
    assert found["history_and_user"] > found["history"] - 0.005
    assert found["history"] > found["history_behavior_unknown"]
    assert found["history"] > markov_ndcg(log) + 0.1


def test_refuses_what_it_cannot_answer(log: SyntheticLog) -> None:
    short = generate(SyntheticConfig(users=3, items=50, mean_events=2, min_events=1, max_events=2))
    with pytest.raises(UserError, match="2 targets"):
        ceilings(short)
    with pytest.raises(ValueError, match="is the first"):
        predictive(log, 1, int(log.trace.offsets[1]))
    with pytest.raises(ValueError, match="user 0"):
        predictive(log, 0, int(log.trace.offsets[1]) + 1)
