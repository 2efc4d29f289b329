"""Passes of few padded shapes: on the CPU without the capture, and on a GPU replayed."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.attention import dispatch
from models.gpu.cuda_graph import without_collection
from models.serving.cache import HistoryCache, replays
from models.serving.cache.call import Shape, round_up
from models.serving.cache.tokens import TokenCounts
from models.tasks.retrieval.model import RetrievalModel
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.interpreted import DEVICE
from tests.models.serving.cached import Log, N, assert_close, batch_of, make_model, padded
from tests.models.serving.test_history_cache import LARGE, STEPS, names, replay

KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"kind": "hstu"}, {"behaviors": "add", "query_behavior": "add"}),
    ({"kind": "fuxi", "attention_window": 2, "attention_global": 1}, {}),
    ({"kind": "sasrec"}, {}),
    ({"kind": "llama", "attention_window": 3}, {}),
    ({"kind": "gpt"}, {"layout": "interleaved"}),
    ({"kind": "hstu"}, {"layout": "behavior_first"}),
    ({"kind": "hstu"}, {"users": 2}),
    ({"kind": "ligr"}, {"positions": "attention_only"}),
    ({"kind": "hstu"}, {"layout": "channels"}),
    ({"kind": "gpt", "attention_window": 3}, {"layout": "channels"}),
]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(("config", "embedding"), KINDS, ids=names)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    time=st.sampled_from(["known", "unknown"]),
    window=st.sampled_from([(N, 1), (N - 1, 3)]),
    seed=st.integers(0, 1000),
)
def test_padded_to_few_shapes_nothing_changes(
    config: dict[str, Any],
    embedding: dict[str, Any],
    steps: list[dict[int, int]],
    time: Any,
    window: tuple[int, int],
    seed: int,
) -> None:
    model = make_model(config, seed, **embedding)
    cache = HistoryCache(model, LARGE, time=time, window=window[0], slide=window[1], page_events=2)
    recorded = padded(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
        # Sizes are far apart, so that calls of other sizes meet in one.
        patch.setattr("models.serving.cache.call._PARTS", 1)
        replay(model, cache, steps, time=time, seed=seed)
    counts = cache.counts
    assert counts.not_recorded is None
    assert counts.replayed == 2 * len(steps)
    assert counts.shapes == recorded.works <= counts.replayed


@pytest.mark.parametrize("config", [{"kind": "hstu"}, {"kind": "sasrec", "attention_window": 3}], ids=names)
def test_padded_candidates(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    model, generator = make_model(config, users=1), torch.Generator().manual_seed(1)
    logs = [Log() for _ in range(3)]
    for log, length in zip(logs, (N - 1, 2, 4), strict=True):
        log.grow(length, generator)
    plain, fixed = (HistoryCache(model, LARGE, time="known", window=N - 1) for _ in range(2))
    padded(fixed)
    for cache in (plain, fixed):
        cache.append([0, 1, 2], batch_of(logs, "known"))
    items = torch.randint(1, 12, (23,), generator=generator)
    for counts in ([1, 20, 2], [0, 9, 0], [11, 0, 12]):
        asked = items[: sum(counts)], counts, 10**7
        expected = plain.candidates([0, 1, 2], *asked)
        for _ in range(2):
            assert_close(fixed.candidates([0, 1, 2], *asked, at_once=8), expected)
    assert fixed.counts.replayed > 6


def test_shapes_that_come_again_are_recorded_once_and_the_oldest_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    model, generator = make_model({"kind": "hstu"}), torch.Generator().manual_seed(1)
    cache = HistoryCache(model, LARGE, time="known")
    recorded = padded(cache, most=2)
    logs = [Log() for _ in range(4)]
    for log in logs:
        log.grow(3, generator)
    cache.append(range(4), batch_of(logs, "known"))
    for users, works in (([0, 1], 2), ([2, 3], 2), ([0], 3), ([1], 3), ([2, 1], 3), ([0, 1, 2], 4), ([3], 5)):
        cache.queries(users)
        assert recorded.works == works
        assert cache.counts.shapes <= 2
    assert cache.counts.replayed == 8
    cache.clear()
    assert cache.counts.shapes == 0


def test_memory_is_free_when_nobody_has_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not when Python next looks for cycles, in the middle of another capture perhaps."""
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    model, log = make_model({"kind": "hstu"}), Log()
    log.grow(3, torch.Generator())
    with without_collection():
        cache = HistoryCache(model, LARGE, time="known")
        padded(cache)
        cache.append([0], batch_of([log], "known"))
        assert cache.counts.replayed == 1
        keys = ref(cache.pages.keys[0])
        del cache
        assert keys() is None


def test_large_passes_are_computed_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(replays, "MOST_EVENTS", 4)
    model, log = make_model({"kind": "hstu"}), Log()
    cache = HistoryCache(model, LARGE, time="known")
    padded(cache)
    log.grow(5, torch.Generator())
    cache.append([0], batch_of([log], "known"))
    assert cache.counts.replayed == 0
    cache.queries([0])
    assert cache.counts.replayed == 1


def test_without_a_kernel_for_it_nothing_is_recorded() -> None:
    """On a CPU none computes HSTU's attention without lengths; the answers are those of a plain cache."""
    model, log = make_model({"kind": "hstu"}), Log()
    log.grow(5, torch.Generator())
    plain, fixed = (HistoryCache(model, LARGE, time="known") for _ in range(2))
    padded(fixed)
    with pytest.warns(UserWarning, match="no attention kernel fits"):
        found = fixed.append([0], batch_of([log], "known"))
    assert torch.equal(found, plain.append([0], batch_of([log], "known")))
    assert torch.equal(fixed.queries([0]), plain.queries([0]))
    assert "no attention kernel fits" in str(fixed.counts.not_recorded)


@given(count=st.integers(0, 100_000))
def test_few_sizes_with_little_padding(count: int) -> None:
    found = round_up(count)
    assert count <= found <= count + max(count // 8, 0) + 1
    assert round_up(found) == found


def test_few_sizes() -> None:
    assert len({round_up(count) for count in range(1, 4097)}) == 8 + 9 * 8
    shape = Shape(True, False, (), ("timestamp",), 3, 20, 17, 9, 12, 23, 13, 4000, 3990, 11)
    rounded = shape.rounded(TokenCounts(1, 1), limit=4000)
    # Tokens of 20 events and 3 users, one in front of each; and candidates share a position.
    assert rounded == Shape(True, False, (), ("timestamp",), 3, 20, 18, 9, 12, 23, 13, 4096, 4011, 11)


def served(model: RetrievalModel, graphs: bool) -> tuple[list[torch.Tensor], HistoryCache]:
    """Some days of a service, always of the same few shapes."""
    cache = HistoryCache(model, LARGE, time="known", window=N - 1, page_events=2, graphs=graphs)
    generator, found = torch.Generator().manual_seed(0), []
    for day in range(4):
        logs = [Log() for _ in range(6)]
        for log in logs:
            log.grow(3, generator)
        for first in (0, 3):
            users, some = range(first, first + 3), logs[first : first + 3]
            found.append(cache.append(users, batch_of(some, "known")))
            found.append(cache.queries(users, 10**7 + day))
            if model.embedding.config.layout in ("event", "channels"):
                found.append(cache.candidates(users, [3, 4, 5, 6, 7, 8], [2, 1, 3], 10**7))
    return found, cache


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("config", "embedding"), KINDS, ids=names)
def test_replayed_nothing_changes(config: dict[str, Any], embedding: dict[str, Any], half: bool) -> None:
    model = make_model(config, **embedding).to(DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
        expected, plain = served(model, graphs=False)
        found, cache = served(model, graphs=True)
    assert plain.counts.replayed == 0
    assert cache.counts.not_recorded is None
    assert cache.counts.replayed == len(found)
    assert 0 < cache.counts.shapes <= len(found) // 2
    for ours, truth in zip(found, expected, strict=True):
        assert_close(ours.float(), truth.float(), 0.1 if half else 1e-4)
