"""What counters say besides how often, and rates of everybody, against loops over all events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.build import make_loader, sequences_of
from models.data.batch import PackedBatch
from models.data.counted import Values
from models.data.loading import MemorySource
from models.data.rated import RateTable
from models.evaluation.actions.labels import SAMPLED
from models.evaluation.actions.rows import LabelledRows
from models.serving.cache import RankingCache
from models.tasks.ranking.counters import EDGES
from models.tasks.ranking.task import RankingTask
from tests.models.tasks.ranking.branded import values_of, write
from tests.models.tasks.ranking.world import FIRST, ITEMS, settings, task_of

NAMES = ("user", "item", "brand", "tags")
COUNTERS = ("task.counters=[user, item, brand, tags]", "task.rates=[item, brand, tags]")
FACTS = ("task.counter_facts=[since, count, recent]", *COUNTERS)
LABELS = "task.label=[value>=4, buy, value]"
YEAR = 365 * 86400.0


def events_of(count: int, seed: int) -> list[dict[str, Any]]:
    """Users of up to 28 events, some at one time, also with those of others, every sixth without a training
    part; values tell an event's place."""
    rng = np.random.default_rng(seed)
    users = []
    for number in range(count):
        length = int(rng.integers(1, 29))
        step = rng.choice([0, 0, 4, 40, 7000, 100_000, 40 * 86400, 500 * 86400], length)
        value = rng.integers(1, 6, length) + np.arange(length) / 64.0
        train, valid = sorted(rng.integers(0, length + 1, 2).tolist())
        if number % 6 == 5:
            train = valid = 0
        users.append(
            {
                "item": (FIRST + rng.integers(0, ITEMS, length)).tolist(),
                "behavior": rng.integers(1, 4, length).tolist(),
                "timestamp": np.cumsum(step).tolist(),
                "value": value.tolist(),
                "train_end": train,
                "valid_end": valid,
            }
        )
    return users


USERS = events_of(30, seed=3)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def acts(user: dict[str, Any], place: int) -> list[float]:
    """1 for the event, then whether it has each action."""
    return [1.0, float(user["value"][place] >= 4), float(user["behavior"][place] == 3)]


def since(seconds: float | None) -> list[float]:
    """The share of each interval, on a logarithmic scale, that is longer."""
    found = []
    for low, high in pairwise(EDGES):
        a, b = math.log(1 + low), math.log(1 + high)
        x = math.inf if seconds is None else math.log(1 + seconds)
        found.append(min(max((b - x) / (b - a), 0.0), 1.0))
    return found


def smoothed(told: list[float], rates: list[float], strength: float) -> list[float]:
    n, *hits = told
    return [math.log1p(n), *((p - n * r) / (n + strength) for p, r in zip(hits, rates, strict=True))]


def of_user(
    user: dict[str, Any], place: int, item: int, now: int, name: str, what: str, rates: list[float]
) -> list[float]:
    """What is said of an item at a place given all before it."""
    wanted = values_of(item, name)
    total = np.zeros(3)
    latest: list[list[float]] = [[0.0] * 3 for _ in wanted]
    for before in range(place):
        had = values_of(user["item"][before], name)
        for number, value in enumerate(wanted):
            if value in had:
                weight = 0.9 ** (place - 1 - before) if what == "recent" else 1.0
                total += weight * np.array(acts(user, before)) / len(wanted)
                age = max(now - user["timestamp"][before], 0)
                near = max(math.log1p(YEAR) - math.log1p(age), 0.0)
                latest[number] = [
                    near if a else old for a, old in zip(acts(user, before), latest[number], strict=True)
                ]
    if what != "since":
        return smoothed(total.tolist(), rates, {"count": 5.0, "recent": 1.0}[what])
    mean = np.mean(latest, 0).tolist()
    seconds = [math.expm1(math.log1p(YEAR) - near) if near > 0 else None for near in mean]
    return [share for each in seconds for share in since(each)]


def of_everybody(item: int, now: int, name: str, rates: list[float], part: str) -> list[float]:
    wanted, total = values_of(item, name), np.zeros(3)
    for user in USERS:
        end = user["train_end"] if part == "train" else user["valid_end"]
        for place in range(end):
            if user["timestamp"][place] < now:
                same = sum(value in values_of(user["item"][place], name) for value in wanted)
                total += same / len(wanted) * np.array(acts(user, place))
    return smoothed(total.tolist(), rates, 5.0)


def expected(
    user: dict[str, Any],
    place: int,
    now: int,
    rates: list[float],
    part: str = "train",
    item: int | None = None,
) -> list[float]:
    """Of an item, by default that of the log."""
    item, found = user["item"][place] if item is None else item, []
    for name in NAMES:
        for what in ("since", "count", "recent"):
            found += of_user(user, place, item, now, name, what, rates)
    for name in NAMES[1:]:
        found += of_everybody(item, now, name, rates, part)
    return found


def batches(shards: ShardFolder, task: RankingTask, *overrides: str) -> Iterator[PackedBatch]:
    config = settings(*overrides, "train.batch_sequences=5", "model.max_length=4")
    loader = make_loader(config, sequences_of(shards, config, task.columns), shards.manifest.behaviors)
    yield from loader
    loader.close()


def place_of(value: float) -> int:
    """Of the event with this value."""
    return round(value % 1 * 64)


@pytest.mark.parametrize("part", ["train", "train+valid"])
@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("window", ["newest", "sliding", "random"])
def test_facts_are_those_of_all_that_came_before(
    window: str, time: str, part: str, shards: ShardFolder
) -> None:
    task = task_of(shards, *FACTS, LABELS, f"loader.part={part}")
    task.model.offset.copy_(torch.tensor([0.3, -0.5, 2.0]))
    rates = [1 / (1 + math.exp(-z)) for z in (0.3, -0.5)]
    checked = inside = 0
    for batch in batches(
        shards, task, f"loader.sampling.window={window}", f"model.time={time}", f"loader.part={part}"
    ):
        numbers = task.model.counters(batch, task.model.offset.sigmoid())
        assert numbers.shape == (batch.num_events + batch.num_sequences, task.model.counters.width)
        for row, number in enumerate(batch.sequence.tolist()):
            user = USERS[number]
            begin, end = batch.offsets[row : row + 2].tolist()
            for event in range(begin, end):
                place = place_of(float(batch["target_value"][event]))
                assert place == place_of(float(batch["value"][event])) + 1
                now = user["timestamp"][place if time == "known" else place - 1]
                told = expected(user, place, now, rates, part)
                assert numbers[event].tolist() == pytest.approx(told, abs=2e-5)
                checked += 1
            first = place_of(float(batch["value"][begin]))
            now = user["timestamp"][first if time == "known" or first == 0 else first - 1]
            told = expected(user, first, now, rates, part)
            assert numbers[batch.num_events + row].tolist() == pytest.approx(told, abs=2e-5)
            inside += first > 0
    assert checked > 40
    assert window == "newest" or inside


def test_rates_look_at_nothing_of_the_moment_or_later() -> None:
    """Whatever happens from a moment on, what is known before and at it stays the same."""
    rng = np.random.default_rng(0)
    item, time = rng.integers(0, 4, 200), rng.integers(0, 30, 200)
    values = Values.of_items(4)
    one, two = rng.random(200).astype(np.float32), rng.random(200).astype(np.float32)

    def before(table: RateTable, value: int, moment: int) -> float:
        begin, end = table.begin[value : value + 2]
        earlier = int(np.searchsorted(table.time[begin:end], moment, side="left"))
        return float(table.sums[0][begin + earlier - 1]) if earlier else 0.0

    for moment in range(31):
        later = time >= moment
        other = RateTable.of(
            values, np.where(later, rng.permutation(item), item), time, [np.where(later, two, one)]
        )
        table = RateTable.of(values, item, time, [one])
        for value in range(4):
            slow = sum(float(w) for i, t, w in zip(item, time, one, strict=True) if i == value and t < moment)
            assert before(table, value, moment) == pytest.approx(slow, abs=1e-5)
            assert before(other, value, moment) == pytest.approx(slow, abs=1e-5)


def test_rows_of_one_pass_are_told_what_each_is_told_alone(shards: ShardFolder) -> None:
    task = task_of(shards, *FACTS, LABELS)
    config = settings()
    source = sequences_of(shards, config, task.columns)
    evaluator = task.evaluator(source, config.evaluation)
    for data in source:
        rows = evaluator._rows(data, "test")
        assert isinstance(rows, LabelledRows)
        near = np.flatnonzero(rows.position < 4)  # so that every history is seen whole in both
        rows = rows.take(near)
        every = evaluator.predicted(data, rows)
        alone = [evaluator.predicted(data, rows.take(np.array([row])))[0] for row in range(len(rows))]
        np.testing.assert_allclose(every, np.stack(alone), atol=1e-5)
        assert len(rows) > 10


def test_cached_histories_are_told_the_same(shards: ShardFolder) -> None:
    task = task_of(shards, *FACTS)
    batch = next(batches(shards, task))
    with torch.no_grad():
        whole = task.model(batch)
    cache = RankingCache.for_batch(task.model, batch, time="known")
    ends = batch.offsets[1:] - 1
    context = task.model.counters(batch, task.model.offset.sigmoid())[ends]
    counts = np.ones(batch.num_sequences, np.int64)
    found = cache.logits(
        range(batch.num_sequences), batch["target_item"][ends], counts, context=context, new=batch
    )
    torch.testing.assert_close(found, whole[ends], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("time", ["known", "unknown"])
def test_drawn_items_are_told_of_as_if_the_log_had_gone_on_with_them(time: str, shards: ShardFolder) -> None:
    drawn = "task.negatives.ratio=2", "task.negatives.left_out=event"
    given = "task.label=[value>=4, buy]", f"model.time={time}", *drawn
    task = task_of(shards, *FACTS, *given)
    task.model.offset.copy_(torch.tensor([0.3, -0.5]))
    rates = [1 / (1 + math.exp(-z)) for z in (0.3, -0.5)]
    config = settings(
        *given, "loader.sampling.window=sliding", "model.max_length=4", "train.batch_sequences=5"
    )
    assert task.batches is not None
    loader = make_loader(config, sequences_of(shards, config, task.columns), shards.manifest.behaviors)
    task.batches.look_at(loader.source)
    bare = asked = 0
    for plain in loader:
        batch = task.prepare(plain).batch
        numbers = task.model.counters(batch, task.model.offset.sigmoid())
        for row in range(plain.num_sequences, batch.num_sequences):
            user = USERS[int(batch.sequence[row])]
            end = int(batch.offsets[row + 1]) - 1
            before = int(batch["place in sequence"][end])
            if int(batch.behavior[end]) == SAMPLED:  # it is asked about as the first item
                assert int(batch.offsets[row]) == end
                place, item = before, int(batch.item[end])
                told = numbers[batch.num_events + row]
                bare += 1
            else:
                place, item = before + 1, int(batch["target_item"][end])
                told = numbers[end]
                asked += 1
            now = user["timestamp"][place if time == "known" or place == 0 else place - 1]
            wanted = expected(user, place, now, rates, item=item)
            assert told.tolist() == pytest.approx(wanted, abs=2e-5)
    loader.close()
    assert min(bare, asked) > 20


def test_judged_drawn_items_are_those_that_the_log_might_have_had(shards: ShardFolder) -> None:
    """A row of a drawn item is predicted as the row of its event is, were it on that item."""
    given = "task.label=buy", "task.negatives.ratio=1", "task.negatives.left_out=event"
    task = task_of(shards, *FACTS, *given)
    config = settings(*given)
    (data,) = sequences_of(shards, config, task.columns)
    evaluator = task.evaluator(MemorySource([data]), config.evaluation)
    rows = evaluator._rows(data, "test")
    every = evaluator.predicted(data, rows)
    sampled = np.flatnonzero(rows.behavior == SAMPLED)
    bare = rows.stop[sampled] == 0
    assert bare.sum() > 3
    for row in [*sampled[bare][:4], *sampled[~bare][:8]]:
        one = rows.take(np.array([row]))
        event = int(data.offsets[one.sequence[0]] + one.position[0])
        item = data.item.copy()
        item[event] = one.item[0]
        other = replace(data, events={**data.events, "item": item})
        (alike,) = np.flatnonzero(
            (rows.sequence == one.sequence[0])
            & (rows.position == one.position[0])
            & (rows.behavior != SAMPLED)
        )
        asked = rows.take(np.array([alike]))
        np.testing.assert_allclose(evaluator.predicted(other, asked)[0], every[row], atol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["task.rates=[user]"], "users are told of by their own counters"),
        (["task.rates=[size]"], "is a number"),
        (["task.rates=[shop]"], "no item feature 'shop'"),
        (["task.rates=[item, item]"], "twice"),
        (["task.counters=[user]", "task.counter_facts=[since, since]"], "twice"),
    ],
)
def test_what_makes_no_sense_is_refused(overrides: list[str], why: str, shards: ShardFolder) -> None:
    with pytest.raises(UserError, match=why):
        task_of(shards, *overrides)


def test_facts_need_counters_and_times_need_timestamps(
    shards: ShardFolder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(UserError, match="counter_facts"):
        settings("task.counter_facts=[recent]")
    without = write(tmp_path_factory.mktemp("none"), USERS, unit="none")
    for override in ("task.rates=[item]", "task.counter_facts=[count, since]"):
        with pytest.raises(UserError, match="timestamps"):
            task_of(without, "task.counters=[item]", "model.time=unknown", override)
