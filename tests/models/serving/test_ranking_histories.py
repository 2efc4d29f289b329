"""Histories of ranking models that grow: logits of candidates after them against those of whole sequences."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.attention import dispatch
from models.build import sequences_of
from models.data.batch import PackedBatch
from models.data.columns import Columns
from models.data.origins import Next, QueryTimestamp
from models.data.windows import Windows, gather
from models.gpu.availability import without_kernels
from models.serving.cache import RankingCache
from models.serving.cache.past import PastInPlace
from models.serving.cache.replays import Replays
from models.tasks.ranking.model import RankingModel
from models.tasks.ranking.task import RankingTask
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.interpreted import DEVICE, on_gpu
from tests.models.serving.cached import Recorded, assert_close
from tests.models.serving.test_history_cache import KINDS, names
from tests.models.tasks.ranking.test_ranking_model import ORDERS
from tests.models.tasks.ranking.world import FIRST, ITEMS, N, events_of, task_of, write
from tests.models.tasks.ranking.world import settings as run_settings

LARGE = 1 << 20
RICH = ("embedding.event_features=[device]", "task.known_features=[price]", "task.label=[value>=4, buy]")
USERS = events_of(5, seed=3)
STEPS = st.lists(
    st.dictionaries(st.integers(0, 4), st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    """Of users with 20 events at least."""
    users = [
        {name: values * 20 if isinstance(values, list) else values for name, values in user.items()}
        for user in USERS
    ]
    for user in users:
        user["timestamp"] = np.cumsum(user["timestamp"]).tolist()
    return write(tmp_path_factory.mktemp("data"), users)


class World:
    """A model, and a log of people who go on."""

    def __init__(self, shards: ShardFolder, time: Any, *overrides: str) -> None:
        task = task_of(shards, *RICH, *overrides, f"model.time={time}")
        assert isinstance(task, RankingTask)
        assert isinstance(task.model, RankingModel)
        self.time, self.model = time, task.model
        (self.data,) = sequences_of(shards, run_settings(), task.columns)

    def batch(self, users: list[int], begin: list[int], end: list[int]) -> PackedBatch:
        """Events `begin` to `end` of each user, and when the one after them is asked about."""
        data, first = self.data, self.data.offsets[users]
        windows = Windows(np.array(users), first + begin, first + end, first + end)
        return gather(data, windows, time=self.time)

    def recomputed(
        self, user: int, window: tuple[int, int], item: int, price: float, at: int | None
    ) -> Tensor:
        """[labels] of one candidate after a whole window."""
        batch = self.batch([user], [window[0]], [window[1]])
        told: dict[str, Any] = {"target_item": item, "target_price": price}
        if at is not None and self.time == "known":
            told["query_time"] = at
        columns = {name: batch[name].clone() for name in told}
        for name, value in told.items():
            columns[name][-1] = value
        with pytest.MonkeyPatch.context() as patch, torch.no_grad(), without_kernels():
            patch.setenv("LRM_ATTENTION", "reference")
            whole = batch.with_values(**columns).to(self.model.device)
            return self.model(whole)[batch.num_events - 1].cpu()


@lru_cache(maxsize=4)
def world_of(shards_of: Any, time: str, *overrides: str) -> World:
    return World(shards_of.shards, time, *overrides)


class Same:
    """Shards, by which worlds are found again."""

    def __init__(self, shards: ShardFolder) -> None:
        self.shards = shards


@pytest.fixture(scope="module")
def same(shards: ShardFolder) -> Same:
    return Same(shards)


def replay(
    world: World, cache: RankingCache, steps: list[dict[int, int]], seed: int, tolerance: float = 1e-5
) -> None:
    """Append events, `steps[s][user]` of them, and compare all logits with those of whole windows."""
    generator, lengths = torch.Generator().manual_seed(seed), dict[int, int]()
    for number, step in enumerate(steps):
        users = list(step)
        begin = [lengths.get(user, 0) for user in users]
        assert cache.seen(users).tolist() == begin
        lengths |= {user: lengths.get(user, 0) + step[user] for user in users}
        end = [lengths[user] for user in users]
        new = world.batch(users, begin, end)
        counts = torch.randint(0, 4, (len(users),), generator=generator).tolist()
        items = torch.randint(FIRST, FIRST + ITEMS, (sum(counts),), generator=generator)
        price = torch.randn(sum(counts), generator=generator)
        whose = np.repeat(np.arange(len(users)), counts)
        windows = [(int(cache.window.begin(np.array(stop))), stop) for stop in end]

        def expected(at: int | None, whose: Any = whose, users: Any = users, windows: Any = windows,
                     items: Tensor = items, price: Tensor = price) -> Tensor:  # fmt: skip
            rows = [
                world.recomputed(users[row], windows[row], int(item), float(cost), at)
                for row, item, cost in zip(whose.tolist(), items, price, strict=True)
            ]
            return torch.stack(rows) if rows else torch.empty(0, 2)

        known = {"price": price}
        if number % 2:  # in one pass
            found = cache.logits(users, items, counts, known=known, new=new, at_once=2).cpu()
        else:
            cache.append(users, new)
            found = cache.logits(users, items, counts, known=known, at_once=2).cpu()
        assert_close(found, expected(None), tolerance)
        # Asked otherwise, and the cache is none the worse for it.
        asked = cache.logits(users, items, counts, 10**6, known=known)
        assert_close(asked.cpu(), expected(10**6), tolerance)
        assert_close(cache.logits(users, items, counts, known=known).cpu(), found, tolerance)


@pytest.mark.parametrize("config", KINDS, ids=names)
@settings(
    max_examples=2, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    steps=STEPS,
    order=st.sampled_from(ORDERS),
    time=st.sampled_from(["known", "unknown"]),
    window=st.sampled_from([(N, 1), (N - 1, 1), (N, 3), (1, 1), (N, N)]),
    page=st.sampled_from([1, 3, 64]),
    seed=st.integers(0, 1000),
)
def test_appending_is_recomputing(
    same: Same,
    config: dict[str, Any],
    steps: list[dict[int, int]],
    order: str,
    time: Any,
    window: tuple[int, int],
    page: int,
    seed: int,
) -> None:
    overrides = (f"model.{name}={value}" for name, value in config.items())
    world = world_of(same, time, *overrides, f"task.actions={order}")
    cache = RankingCache(world.model, LARGE, time=time, window=window[0], slide=window[1], page_events=page)
    replay(world, cache, steps, seed)


@pytest.mark.parametrize(
    "config",
    [{"kind": "hstu"}, {"kind": "llama", "attention_window": 3}, {"kind": "fuxi", "attention_window": 2}],
    ids=names,
)
@pytest.mark.parametrize("order", ORDERS)
def test_padded_to_few_shapes_nothing_changes(
    same: Same, config: dict[str, Any], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr("models.serving.cache.call._PARTS", 1)
    overrides = (f"model.{name}={value}" for name, value in config.items())
    world = world_of(same, "known", *overrides, f"task.actions={order}")
    cache = RankingCache(world.model, LARGE, time="known", slide=2, page_events=2)
    cache._passes.replays = Replays(world.model.device, Recorded())
    replay(world, cache, [{0: 3, 2: 1}, {0: 7, 1: 2, 3: 8}, {2: 9}, {0: 1, 1: 1, 2: 1}], seed=1)
    assert cache.counts.not_recorded is None
    assert cache.counts.replayed > cache.counts.shapes > 0


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("order", ORDERS)
def test_read_in_their_pages(same: Same, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernels that read pages, interpreted where there is no GPU."""
    pytest.importorskip("triton", reason="triton is not installed")
    reads, attend = [], PastInPlace.attend
    monkeypatch.setattr(
        PastInPlace, "attend", lambda *given, **named: reads.append(1) or attend(*given, **named)
    )  # type: ignore[func-returns-value]
    world = World(same.shards, "known", f"task.actions={order}")
    world.model.to(DEVICE)
    cache = RankingCache(world.model, LARGE, time="known", page_events=2, graphs=False)
    replay(world, cache, [{0: 3, 1: 1}, {1: N, 0: 1}], seed=3, tolerance=1e-4 if on_gpu else 1e-5)
    assert len(reads) >= 2 * 2 * 3


@pytest.mark.parametrize("order", ORDERS)
def test_half_the_memory_and_rounded(same: Same, order: str) -> None:
    world = world_of(same, "known", f"task.actions={order}")
    cache = RankingCache(world.model, LARGE, time="known", storage="bfloat16")
    replay(world, cache, [{0: 3, 1: 1}, {1: 4, 0: 1}], seed=2, tolerance=0.1)
    assert cache.pages.count > RankingCache(world.model, LARGE, time="known").pages.count


def test_users_who_had_to_leave_come_back(same: Same) -> None:
    """More users than there is room for: every answer is right, memory stays, and all is counted."""
    world = world_of(same, "known", "task.actions=joined")
    one = RankingCache(world.model, LARGE, time="known", page_events=N).pages.nbytes
    cache = RankingCache(world.model, 4 * one, time="known", page_events=N)  # a first item takes one more
    lengths = [0] * 5
    for step in range(10):
        users = sorted({step % 5, (step * 3 + 1) % 5})
        seen = cache.seen(users).tolist()
        for user in users:
            lengths[user] += 1 + step % 2
        end = [lengths[user] for user in users]
        begin = [max(there, stop - N) for there, stop in zip(seen, end, strict=True)]
        new = world.batch(users, begin, end)
        cache.append(users, new, before=begin)
        found = cache.logits(
            users, [FIRST] * len(users), [1] * len(users), known={"price": torch.zeros(2)[: len(users)]}
        )
        expected = [
            world.recomputed(user, (max(stop - N, 0), stop), FIRST, 0.0, None)
            for user, stop in zip(users, end, strict=True)
        ]
        assert_close(found, torch.stack(expected))
        assert cache.counts.used_bytes <= 4 * one
    assert cache.counts.evictions > 0
    assert cache.counts.misses > 5


def test_the_same_calls_give_the_same_bits(same: Same) -> None:
    world = world_of(same, "known", "task.actions=interleaved")
    cache, known = RankingCache(world.model, LARGE, time="known"), {"price": torch.tensor([0.5, -1.0])}
    found = []
    for _ in range(2):
        cache.append([0, 1], world.batch([0, 1], [0, 0], [5, N]))
        cache.append([1], world.batch([1], [N], [N + 2]))  # its window moves: computed anew
        found.append(cache.logits([1, 0], [3, 4], [1, 1], known=known))
        cache.forget([0, 1])
    assert torch.equal(*found)
    anew = RankingCache(world.model, LARGE, time="known")
    anew.append([1], world.batch([1], [2], [N + 2]), before=[2])
    one = {"price": known["price"][:1]}
    cache.append([1], world.batch([1], [0], [N]))
    cache.append([1], world.batch([1], [N], [N + 2]))
    assert torch.equal(cache.logits([1], [3], [1], known=one), anew.logits([1], [3], [1], known=one))


def test_who_has_nothing_new_and_who_has_no_history(same: Same) -> None:
    """In one call with those who go on."""
    world = world_of(same, "known", "task.actions=added")
    cache = RankingCache(world.model, LARGE, time="known")
    cache.append([0, 1], world.batch([0, 1], [0, 0], [4, 3]))
    items, price, counts = [FIRST, FIRST + 1, FIRST, FIRST + 2, FIRST + 3], torch.randn(5), [1, 2, 1, 1]
    new = world.batch([0, 1, 2, 3], [4, 3, 0, 0], [4, 5, 2, 0])
    found = cache.logits([0, 1, 2, 3], items, counts, 10**6, known={"price": price}, new=new)
    assert cache.seen([0, 1, 2, 3]).tolist() == [4, 5, 2, 0]
    whose = [(0, (0, 4)), (1, (0, 5)), (1, (0, 5)), (2, (0, 2))]
    expected = [
        world.recomputed(user, window, item, float(cost), 10**6)
        for (user, window), item, cost in zip(whose, items, price, strict=False)
    ]
    # An event alone in its sequence: its own item is the first one, before which nothing is known.
    alone = world.batch([3], [0], [1])
    first = torch.full_like(alone["item"], items[4])
    with torch.no_grad():
        told = alone.with_values(item=first, price=price[4:])
        expected.append(world.model(told)[1])
    assert_close(found, torch.stack(expected))
    assert cache.logits([3], [], [0], known={"price": price[:0]}, new=world.batch([3], [0], [0])).shape == (
        0,
        2,
    )
    again = cache.logits([0, 1], items[:2], [1, 1], 10**6, known={"price": price[:2]})
    assert_close(again, torch.stack(expected[:2]))


def test_what_comes_next_need_not_be_told_by_the_batch(same: Same) -> None:
    world = world_of(same, "known", "task.actions=added")
    whole = world.batch([0, 1], [0, 0], [5, 3])
    kept = Columns(
        tuple(column for column in whole.columns if not isinstance(column.origin, Next | QueryTimestamp))
    )
    bare = replace(whole, columns=kept, values={column.name: whole[column.name] for column in kept})
    found = []
    for batch in (whole, bare):
        cache = RankingCache(world.model, LARGE, time="known")
        cache.append([0, 1], batch)
        found.append(cache.logits([0, 1], [3, 4], [1, 1], 10**6, known={"price": torch.ones(2)}))
    assert torch.equal(*found)
    less = Columns(tuple(column for column in kept if column.name != "event.device"))
    with pytest.raises(UserError, match=r"the batch has no 'event\.device'"):
        cache.append(
            [2, 3], replace(bare, columns=less, values={column.name: whole[column.name] for column in less})
        )


def test_what_cannot_be_asked_is_refused(same: Same) -> None:
    world = world_of(same, "known", "task.actions=added")
    cache, price = RankingCache(world.model, LARGE, time="known"), {"price": torch.zeros(1)}
    with pytest.raises(UserError, match="1 users are not in the cache: 4"):
        cache.logits([4], [FIRST], [1], known=price)
    new = world.batch([4], [0], [2])
    for known in ({}, {"price": torch.zeros(2)}):
        with pytest.raises(ValueError, match="told price of each of 1 candidates"):
            cache.logits([4], [FIRST], [1], known=known, new=new)
    with pytest.raises(ValueError, match="add up to others"):
        cache.logits([4], [FIRST], [2], known=price, new=new)
    with pytest.raises(ValueError, match="without a new event"):
        cache.append([4], world.batch([4], [0], [0]))
    assert cache.seen([4]).tolist() == [0]
    with pytest.raises(UserError, match="and the cache has 100"):
        RankingCache(world.model, 100, time="known")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["hstu", "llama", "fuxi"])
@pytest.mark.parametrize("order", ORDERS)
def test_replayed_nothing_changes(shards: ShardFolder, kind: str, order: str) -> None:
    world = World(shards, "known", f"model.kind={kind}", f"task.actions={order}")
    world.model.to(DEVICE)
    cache = RankingCache(world.model, LARGE, time="known", page_events=2, graphs=True)
    for seed in range(4):  # warmed up, recorded, and replayed
        replay(world, cache, [{0: 3, 1: 1}, {0: 2, 1: 4}, {0: N, 1: 1}], seed, tolerance=1e-4)
        cache.forget([0, 1])
    assert cache.counts.not_recorded is None
    # A shape is computed once as it is, and not each is met four times.
    assert cache.counts.replayed > cache.counts.shapes > 0
