"""Cached histories of several tokens an event, and with features of users in front, against whole windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.backbones import BACKBONES
from models.serving.cache import HistoryCache
from models.tasks.retrieval.scoring import scoring
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
from tests.models.serving.test_history_cache import LARGE, STEPS, names, replay

LAYOUTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(
        ({"kind": kind}, {"layout": layout})
        for kind in BACKBONES
        for layout in ("interleaved", "behavior_first")
    ),
    ({"kind": "hstu"}, {"layout": "interleaved", "query_behavior": "add"}),
    ({"kind": "hstu", "attention_window": 2, "attention_global": 1}, {"layout": "interleaved"}),
    ({"kind": "fuxi", "attention_window": 2, "attention_global": 1}, {"layout": "behavior_first"}),
    *(({"kind": kind}, {"users": 2}) for kind in BACKBONES),
    ({"kind": "hstu", "attention_window": 2, "attention_global": 1}, {"users": 2}),
    ({"kind": "hstu"}, {"users": 1, "layout": "behavior_first"}),
    ({"kind": "llama"}, {"users": 2, "layout": "interleaved"}),
    *(({"kind": kind}, {"layout": "channels"}) for kind in BACKBONES),
    ({"kind": "hstu", "attention_window": 2, "attention_global": 1}, {"layout": "channels"}),
    ({"kind": "hstu", "bias": "decay"}, {"layout": "channels", "query_behavior": "add"}),
    ({"kind": "ligr"}, {"layout": "channels", "positions": "attention_only"}),
]


@pytest.mark.parametrize(("config", "embedding"), LAYOUTS, ids=names)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    time=st.sampled_from(["known", "unknown"]),
    window=st.sampled_from([(N, 1), (N - 1, 1), (N, 3), (1, 1)]),
    page=st.sampled_from([1, 3, 64]),
    seed=st.integers(0, 1000),
)
def test_appending_is_recomputing(
    config: dict[str, Any],
    embedding: dict[str, Any],
    steps: list[dict[int, int]],
    time: Any,
    window: tuple[int, int],
    page: int,
    seed: int,
) -> None:
    model = make_model(config, seed, **embedding)
    cache = HistoryCache(model, LARGE, time=time, window=window[0], slide=window[1], page_events=page)
    replay(model, cache, steps, time=time, seed=seed)


@pytest.mark.parametrize("config", [{"kind": "hstu"}, {"kind": "sasrec"}], ids=names)
def test_candidates_after_features_of_users(config: dict[str, Any]) -> None:
    model, generator = make_model(config, users=2), torch.Generator().manual_seed(0)
    cache, logs = HistoryCache(model, LARGE, time="known", window=N - 1, page_events=2), [Log(), Log(user=1)]
    for log, length in zip(logs, (4, 1), strict=True):
        log.grow(length, generator)
    cache.append([5, 6], batch_of(logs, "known"))
    found = cache.candidates([5, 6], [3, 4, 5], [1, 2])
    one_by_one = [
        log.followed_by(item) for log, item in zip((logs[0], logs[1], logs[1]), (3, 4, 5), strict=True)
    ]
    with scoring(model):
        assert_close(model.queries(found), recomputed(model, one_by_one, "known"))


@pytest.mark.parametrize(("config", "embedding"), LAYOUTS, ids=names)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, N - 1), min_size=1, max_size=3),
    candidates=st.lists(st.integers(0, 4), min_size=3, max_size=3),
    at_once=st.sampled_from([1, 2, 256]),
    time=st.sampled_from(["known", "unknown"]),
    in_one=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_candidates_are_scored_as_one_by_one(
    config: dict[str, Any],
    embedding: dict[str, Any],
    lengths: list[int],
    candidates: list[int],
    at_once: int,
    time: Any,
    in_one: bool,
    seed: int,
) -> None:
    """Of several tokens each, the second of which sees the first; and after features of users."""
    model, generator = make_model(config, seed, **embedding), torch.Generator().manual_seed(seed)
    cache = HistoryCache(model, LARGE, time=time, window=N - 1, page_events=2)
    logs, counts = [Log() for _ in lengths], candidates[: len(lengths)]
    users = list(range(len(lengths)))
    for log, length in zip(logs, lengths, strict=True):
        log.grow(length, generator)
    new = batch_of(logs, time)
    if not in_one:
        cache.append(users, new)
    asked_otherwise(logs)
    items = torch.randint(1, ITEMS, (sum(counts),), generator=generator)
    found = cache.candidates(
        users,
        items,
        counts,
        [log.asked_at for log in logs],
        behavior=[log.wanted for log in logs],
        new=new if in_one else None,
        at_once=at_once,
    )
    assert_as_one_by_one(model, found, logs, counts, items, time)
    # Nothing is left of them.
    asked = [log.asked_at for log in logs], [log.wanted for log in logs]
    assert_close(cache.queries(users, asked[0], behavior=asked[1]), recomputed(model, logs, time))


def test_whose_history_it_is_stays_known() -> None:
    """When the window moves, features of users are computed anew: of whom the history began with."""
    model, log = make_model({"kind": "hstu"}, users=2), Log(user=2)
    cache, generator = HistoryCache(model, LARGE, time="known"), torch.Generator().manual_seed(0)
    for count in (2, N, 1):
        seen = int(cache.seen([9])[0])
        log.grow(count, generator)
        batch = batch_of([log.after(seen)], "known")
        if seen:
            batch.sequence.fill_(-1)
        found = cache.append([9], batch)
        window = log.after(max(len(log.items) - N, 0))
        assert_close(found, recomputed(model, [window], "known"))
    nobody = Log(window.items, window.behaviors, window.times, window.asked_at, window.wanted, -1)
    assert not torch.allclose(found, recomputed(model, [nobody], "known"), atol=1e-3)
