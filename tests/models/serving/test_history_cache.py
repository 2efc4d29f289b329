"""Cached histories against models that compute whole windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.backbones import BACKBONES
from models.serving.cache import HistoryCache
from models.tasks.retrieval.model import RetrievalModel
from tests.models.serving.cached import Log, N, assert_close, batch_of, make_model, recomputed

KINDS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in BACKBONES),
    *({"kind": kind, "attention_window": 3} for kind in BACKBONES),
    *({"kind": kind, "attention_window": 2, "attention_global": 2} for kind in BACKBONES),
    {"kind": "hstu", "bias": "decay", "bias_tables": "per_head"},
    {"kind": "hstu", "bias": "rope", "activation": "softmax"},
    {"kind": "sasrec", "bias": "both"},
    {"kind": "sasrec", "residual": "pre_norm", "recompute": "pointwise"},
    {"kind": "gpt", "residual": "post_norm"},
    {"kind": "fuxi", "bias": "time", "qk_dim": 3, "v_dim": 5},
]
LARGE = 1 << 20


def names(config: dict[str, Any]) -> str:
    return " ".join(map(str, config.values()))


def replay(
    model: RetrievalModel,
    cache: HistoryCache,
    steps: list[dict[int, int]],
    *,
    time: str,
    seed: int,
    tolerance: float = 1e-5,
) -> None:
    """Append events, `steps[s][user]` of them, and compare all queries with those of whole windows."""
    generator, logs = torch.Generator().manual_seed(seed), dict[int, Log]()
    for step in steps:
        users = list(step)
        for user in users:
            logs.setdefault(user, Log()).grow(step[user], generator)
        seen = cache.seen(users).tolist()
        found = cache.append(
            users, batch_of([logs[user].after(begin) for user, begin in zip(users, seen, strict=True)], time)
        )
        windows = [logs[user].after(int(cache.window.begin(torch.tensor(len(logs[user].items)).numpy())))
                   for user in users]  # fmt: skip
        assert_close(found, recomputed(model, windows, time), tolerance)
        # The same users are asked otherwise, and the cache is none the worse for it.
        for log in windows:
            log.asked_at, log.wanted = log.asked_at + 12_345, 1 + log.wanted % 3
        asked = cache.queries(
            users, [log.asked_at for log in windows], behavior=[log.wanted for log in windows]
        )
        assert_close(asked, recomputed(model, windows, time), tolerance)


STEPS = st.lists(
    st.dictionaries(st.integers(-2, 3), st.integers(1, N + 3), min_size=1, max_size=4), min_size=1, max_size=5
)


@pytest.mark.parametrize("config", KINDS, ids=names)
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    time=st.sampled_from(["known", "unknown"]),
    behaviors=st.sampled_from([{}, {"behaviors": "add", "query_behavior": "add"}]),
    window=st.sampled_from([(N, 1), (N - 1, 1), (N, 3), (1, 1), (N, N)]),
    page=st.sampled_from([1, 3, 64]),
    seed=st.integers(0, 1000),
)
def test_appending_is_recomputing(
    config: dict[str, Any],
    steps: list[dict[int, int]],
    time: Any,
    behaviors: dict[str, Any],
    window: tuple[int, int],
    page: int,
    seed: int,
) -> None:
    model = make_model(config, seed, **behaviors)
    cache = HistoryCache(model, LARGE, time=time, window=window[0], slide=window[1], page_events=page)
    replay(model, cache, steps, time=time, seed=seed)


@pytest.mark.parametrize("kind", ["sasrec", "gpt", "ligr", "hstu", "fuxi"])
def test_positions_in_queries_and_keys_alone(kind: str) -> None:
    model = make_model({"kind": kind}, positions="attention_only")
    cache = HistoryCache(model, LARGE, time="known", page_events=2)
    replay(model, cache, [{0: 3, 1: 1}, {1: 4}, {0: 6, 1: 2}], time="known", seed=1)


@pytest.mark.parametrize("kind", BACKBONES)
def test_half_the_memory_and_rounded(kind: str) -> None:
    """A query sees what is stored: the same to rounding, however the events came."""
    model = make_model({"kind": kind})
    cache = HistoryCache(model, LARGE, time="known", storage="bfloat16")
    replay(model, cache, [{0: 3, 1: 1}, {1: 4, 0: 1}], time="known", seed=2, tolerance=0.1)
    full = HistoryCache(model, LARGE, time="known")
    stored = [tensor.dtype for tensor in (*cache.pages.keys, *cache.pages.values)]
    assert stored == [torch.bfloat16] * 6
    assert cache.pages.count > full.pages.count


def test_what_is_stored_is_what_would_be_computed_bit_for_bit_after_coming_back() -> None:
    """The same calls for the same users, before and after they had to leave."""
    model, generator = make_model({"kind": "hstu"}), torch.Generator().manual_seed(0)
    logs = [Log() for _ in range(2)]
    for log in logs:
        log.grow(5, generator)
    cache = HistoryCache(model, LARGE, time="known")
    first = cache.append([5, 6], batch_of(logs, "known"))
    asked = cache.queries([6, 5])
    cache.forget([5, 6, 7])
    assert cache.seen([5, 6]).tolist() == [0, 0]
    assert torch.equal(cache.append([5, 6], batch_of(logs, "known")), first)
    assert torch.equal(cache.queries([6, 5]), asked)
    assert torch.equal(cache.queries([6, 5]), asked)


def test_a_full_window_is_recomputed_bit_for_bit() -> None:
    model, generator = make_model({"kind": "llama"}), torch.Generator().manual_seed(0)
    log = Log()
    log.grow(N, generator)
    cache = HistoryCache(model, LARGE, time="known")
    cache.append([0], batch_of([log], "known"))
    log.grow(2, generator)
    moved = cache.append([0], batch_of([log.after(N)], "known"))
    anew = HistoryCache(model, LARGE, time="known").append([0], batch_of([log.after(2)], "known"))
    assert torch.equal(moved, anew)


def test_dropout_and_gradients_are_left_out_and_the_mode_comes_back() -> None:
    model, log = make_model({"kind": "gpt"}), Log()
    log.grow(3, torch.Generator())
    model.train()
    queries = HistoryCache(model, LARGE, time="known").append([0], batch_of([log], "known"))
    assert model.training
    assert not queries.requires_grad
    assert_close(queries, recomputed(model, [log], "known"))
