"""Micro-batches of candidates (M-FALCON) against one candidate at a time, as the next event."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.backbones import BACKBONES
from models.serving.cache import HistoryCache
from tests.models.serving.cached import (
    ITEMS,
    Log,
    N,
    asked_otherwise,
    assert_as_one_by_one,
    assert_close,
    batch_of,
    make_model,
    recomputed,
)

BUDGET = 1 << 20
KINDS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in BACKBONES),
    *({"kind": kind, "attention_window": 2, "attention_global": 1} for kind in ("hstu", "fuxi", "llama")),
    {"kind": "hstu", "bias": "decay"},
    {"kind": "sasrec", "bias": "both"},
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: " ".join(map(str, config.values())))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, N - 1), min_size=1, max_size=3),
    candidates=st.lists(st.integers(0, 6), min_size=3, max_size=3),
    at_once=st.sampled_from([1, 2, 256]),
    time=st.sampled_from(["known", "unknown"]),
    behaviors=st.sampled_from([{}, {"behaviors": "add", "query_behavior": "add"}]),
    seed=st.integers(0, 1000),
)
def test_candidates_are_scored_as_one_by_one(
    config: dict[str, Any],
    lengths: list[int],
    candidates: list[int],
    at_once: int,
    time: Any,
    behaviors: dict[str, Any],
    seed: int,
) -> None:
    model, generator = make_model(config, seed, **behaviors), torch.Generator().manual_seed(seed)
    cache = HistoryCache(model, BUDGET, time=time, window=N - 1, page_events=2)
    logs, counts = [Log() for _ in lengths], candidates[: len(lengths)]
    users = list(range(len(lengths)))
    for log, length in zip(logs, lengths, strict=True):
        log.grow(length, generator)
    before = cache.append(users, batch_of(logs, time))
    asked_otherwise(logs)
    items = torch.randint(1, ITEMS, (sum(counts),), generator=generator)
    found = cache.candidates(
        users,
        items,
        counts,
        [log.asked_at for log in logs],
        behavior=[log.wanted for log in logs],
        at_once=at_once,
    )
    assert found.shape == (sum(counts), 8)
    assert_as_one_by_one(model, found, logs, counts, items, time)
    # Nothing is left of them.
    assert_close(cache.queries(users), before)
    fresh = HistoryCache(model, BUDGET, time=time, window=N - 1, page_events=2)
    fresh.append(users, batch_of(logs, time))
    assert torch.equal(cache.queries(users, 10**7, behavior=2), fresh.queries(users, 10**7, behavior=2))


@pytest.mark.parametrize("at_once", [2, 256])
@pytest.mark.parametrize("counts", [[2, 1, 3], [0, 0, 4], [0, 0, 0]])
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_new_events_and_candidates_in_one_pass(counts: list[int], at_once: int, time: Any) -> None:
    """The same as one after the other, of users who are in the cache, whose window moves, or who are new."""
    model, generator = make_model({"kind": "hstu"}, behaviors="add", query_behavior="add"), torch.Generator()
    one, other = (HistoryCache(model, BUDGET, time=time, window=N - 1, page_events=2) for _ in range(2))
    logs, users = [Log() for _ in counts], [4, 5, 6]
    for log, length in zip(logs[:2], (2, N - 2), strict=True):
        log.grow(length, generator)
    for cache in (one, other):
        cache.append(users[:2], batch_of(logs[:2], time))
    seen = one.seen(users).tolist()
    for log in logs:
        log.grow(3, generator)
    new = batch_of([log.after(begin) for log, begin in zip(logs, seen, strict=True)], time)
    asked = list(range(3, 3 + sum(counts))), counts, [log.asked_at + 77 for log in logs]
    one.append(users, new)
    expected = one.candidates(users, *asked, behavior=2, at_once=at_once)
    found = other.candidates(users, *asked, behavior=2, new=new, at_once=at_once)
    assert_close(found, expected)
    assert other.seen(users).tolist() == one.seen(users).tolist()
    # What is stored is the same: the questions that came with the events, too.
    assert_close(other.queries(users), one.queries(users))
    assert_close(other.queries(users, 10**7, behavior=3), one.queries(users, 10**7, behavior=3))


def test_what_is_not_said_of_candidates_is_as_the_newest_event_was_asked() -> None:
    model = make_model({"kind": "hstu"}, behaviors="add", query_behavior="add")
    cache, log = HistoryCache(model, BUDGET, time="known", window=N - 1), Log()
    log.grow(4, torch.Generator().manual_seed(3))
    cache.append([9], batch_of([log], "known"))
    found = cache.candidates([9], [3, 5], [2])
    assert_close(found, recomputed(model, [log.followed_by(3), log.followed_by(5)], "known"))


def test_candidates_need_a_position() -> None:
    cache, log = HistoryCache(make_model({"kind": "hstu"}), BUDGET, time="known"), Log()
    log.grow(N, torch.Generator())
    cache.append([0], batch_of([log], "known"))
    with pytest.raises(ValueError, match=f"window={N - 1}"):
        cache.candidates([0], [3], [1])
    with pytest.raises(ValueError, match=f"window={N - 1}"):
        cache.candidates([1], [3], [1], new=batch_of([log], "known"))
    assert cache.seen([0, 1]).tolist() == [N, 0]


@pytest.mark.parametrize("counts", [[1, 2], [5, -1]])
def test_counts_go_with_items_and_users(counts: list[int]) -> None:
    cache, log = HistoryCache(make_model({"kind": "hstu"}), BUDGET, time="known", window=N - 1), Log()
    log.grow(1, torch.Generator())
    cache.append([0, 1], batch_of([log, log], "known"))
    with pytest.raises(ValueError, match="and counts of 2 users"):
        cache.candidates([0, 1], [3, 4, 5, 6], counts)
