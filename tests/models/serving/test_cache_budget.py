"""Who stays within the budget: the directory against a plain list, eviction, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.serving.cache import HistoryCache
from models.serving.cache.directory import NOBODY, Directory
from tests.models.serving.cached import Log, N, assert_close, batch_of, make_model, recomputed

PAGES, MOST = 9, 3


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(
        st.dictionaries(st.integers(-3, 90), st.integers(1, MOST), min_size=1, max_size=4), max_size=12
    )
)
def test_the_least_recently_used_leave(calls: list[dict[int, int]]) -> None:
    directory, order = Directory(PAGES, MOST), dict[int, int]()  # users and their pages, oldest use first
    evictions = 0
    for call in calls:
        users = np.array(list(call), np.int64)
        pages = {user: max(count, order.get(user, 0)) for user, count in call.items()}
        if sum(pages.values()) > PAGES:
            with pytest.raises(UserError, match="pages at once"):
                directory.reserve(users, np.array(list(call.values())))
            continue
        slots = directory.reserve(users, np.array(list(call.values())))
        directory.touch(slots)
        for user in call:
            order.pop(user, None)
        while sum(order.values()) + sum(pages.values()) > PAGES:
            order.pop(next(iter(order)))
            evictions += 1
        order |= dict(sorted(pages.items()))  # of one call, those of lower ids leave first
        assert directory.evictions == evictions
        assert len(directory) == len(order)
        assert directory.used_pages == sum(order.values())
        found = directory.find(np.arange(-3, 91))
        assert {int(user) - 3 for user in np.flatnonzero(found != NOBODY)} == set(order)
        owned = [
            directory.table[directory.find(np.array([user]))[0]][:count].tolist()
            for user, count in order.items()
        ]
        every = [page for pages_of in owned for page in pages_of]
        assert len(set(every)) == len(every)
        assert set(every) <= set(range(PAGES))


def test_users_who_had_to_leave_come_back() -> None:
    """More users than there is room for: every answer is right, memory stays, and all is counted."""
    model, generator = make_model({"kind": "hstu"}), torch.Generator().manual_seed(0)
    one = HistoryCache(model, 1 << 20, time="known", page_events=N).pages.nbytes
    cache = HistoryCache(model, 3 * one + one // 2, time="known", page_events=N)
    logs, hits, misses = [Log() for _ in range(5)], 0, 0
    for step in range(12):
        users = sorted({step % 5, (step * 3 + 1) % 5})
        seen = cache.seen(users).tolist()
        hits, misses = hits + sum(map(bool, seen)), misses + sum(not count for count in seen)
        for user in users:
            logs[user].grow(1 + step % 2, generator)
        batch = batch_of([logs[user].after(begin) for user, begin in zip(users, seen, strict=True)], "known")
        found = cache.append(users, batch, before=seen)
        newest = [logs[user].after(max(len(logs[user].items) - N, 0)) for user in users]
        assert_close(found, recomputed(model, newest, "known"))
        counts = cache.counts
        assert (counts.hits, counts.misses) == (hits, misses)
        assert counts.users == counts.used_bytes // one <= 3
    assert cache.counts.evictions == misses - 3 > 0


def test_a_window_depends_on_the_number_of_events_alone() -> None:
    """Of a history that comes back with its newest events only, `before` says how many came before."""
    model, generator = make_model({"kind": "hstu"}), torch.Generator().manual_seed(0)
    cache = HistoryCache(model, 1 << 20, time="known", slide=3)
    log = Log()
    log.grow(2 * N, generator)
    cache.append([0], batch_of([log], "known"))
    cache.append([1], batch_of([log.after(N)], "known"), before=[N])
    assert torch.equal(cache.queries([0]), cache.queries([1]))
    assert cache.seen([0, 1, 2]).tolist() == [2 * N, 2 * N, 0]


def test_events_missing_or_told_twice_are_refused() -> None:
    cache, log = HistoryCache(make_model({"kind": "hstu"}), 1 << 20, time="known"), Log()
    log.grow(3, torch.Generator())
    batch = batch_of([log], "known")
    cache.append([7], batch)
    for wrong in (0, 2, 4):
        with pytest.raises(ValueError, match="user 7 has told 3 events"):
            cache.append([7], batch, before=[wrong])
    with pytest.raises(ValueError, match="stands in a call once"):
        cache.append([7, 7], batch_of([log, log], "known"))
    with pytest.raises(ValueError, match="2 users, and 1 sequences"):
        cache.append([7, 8], batch)
    with pytest.raises(ValueError, match="without a new event"):
        cache.append([7, 8], PackedBatch.from_lists([[3], []]))
    with pytest.raises(UserError, match="2 users are not in the cache: 5, 6"):
        cache.queries([5, 7, 6])


def test_a_call_that_fails_leaves_nothing_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model, log = make_model({"kind": "hstu"}), Log()
    cache = HistoryCache(model, 1 << 20, time="known")
    log.grow(3, torch.Generator())
    cache.append([1, 2], batch_of([log, log], "known"))

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model.backbone.blocks[2], "forward", fail)
        with pytest.raises(MemoryError):
            cache.append([2, 3], batch_of([log, log], "known"))
    assert cache.seen([1, 2, 3]).tolist() == [3, 0, 0]
    assert_close(cache.append([2], batch_of([log], "known")), recomputed(model, [log], "known"))


def test_features_of_users_before_each_behavior_are_refused() -> None:
    with pytest.raises(
        UserError, match="in layout 'channels' features of users stand in front of each behavior's"
    ):
        HistoryCache(make_model({"kind": "hstu"}, layout="channels", users=1), 1 << 20, time="known")


def test_pages_of_one_event_are_not_more_than_there_are() -> None:
    """The row that is nowhere is no page: two users in all there are, one of whom has the last."""
    model, generator = make_model({"kind": "hstu"}), torch.Generator().manual_seed(0)
    one = HistoryCache(model, 1 << 20, time="known", page_events=1).pages.nbytes
    cache = HistoryCache(model, (N + 3) * one, time="known", page_events=1)
    assert cache.pages.count == N + 3
    logs = [Log() for _ in range(2)]
    for log, length in zip(logs, (N, 3), strict=True):
        log.grow(length, generator)
    cache.append([0, 1], batch_of(logs, "known"))
    assert_close(cache.queries([1, 0]), recomputed(model, logs[::-1], "known"))
    with pytest.raises(UserError, match=f"need {N + 4} pages at once, and the cache has {N + 3}"):
        cache.append([2, 3], batch_of([logs[0], Log([3] * 4, [1] * 4, [1, 2, 3, 4])], "known"))


def test_graphs_without_a_gpu_are_refused() -> None:
    model = make_model({"kind": "hstu"})
    with pytest.raises(UserError, match="CUDA graphs need a GPU, and the model is on cpu"):
        HistoryCache(model, 1 << 20, time="known", graphs=True)
    counts = HistoryCache(model, 1 << 20, time="known").counts
    assert (counts.shapes, counts.replayed, counts.not_recorded) == (0, 0, "they are not asked for")


def test_a_budget_below_one_history_is_refused() -> None:
    model = make_model({"kind": "hstu"})
    enough = HistoryCache(model, 1 << 20, time="known").pages.nbytes
    assert HistoryCache(model, enough, time="known").pages.count == 1
    with pytest.raises(UserError, match=f"takes {enough:,} bytes"):
        HistoryCache(model, enough - 1, time="known")


@pytest.mark.parametrize(("window", "slide"), [(0, 1), (N + 1, 1), (3, 4), (3, 0)])
def test_windows_that_make_no_sense_are_refused(window: int, slide: int) -> None:
    with pytest.raises(ValueError, match="a window"):
        HistoryCache(make_model({"kind": "hstu"}), 1 << 20, time="known", window=window, slide=slide)
