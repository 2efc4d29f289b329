"""Counters against a loop over each user's history."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.build import make_loader, sequences_of
from models.serving.cache import RankingCache
from tests.models.tasks.ranking.branded import values_of, write
from tests.models.tasks.ranking.world import events_of, settings, task_of

USERS = events_of(12, seed=8)
COUNTERS = "task.counters=[user, item, brand, tags]"
LABELS = "task.label=[value>=4, buy, value]"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    ends = [len(user["item"]) for user in USERS]
    users = [user | {"train_end": end, "valid_end": end} for user, end in zip(USERS, ends, strict=True)]
    return write(tmp_path_factory.mktemp("data"), users)


def expected(user: dict[str, Any], place: int, rates: list[float]) -> list[float]:
    """The numbers of the item at a place of a user's whole sequence."""
    found = []
    for name in ("user", "item", "brand", "tags"):
        wanted = values_of(user["item"][place], name)
        n = likes = buys = 0.0
        for before in range(place):
            same = sum(value in values_of(user["item"][before], name) for value in wanted) / len(wanted)
            n += same
            likes += same * (user["value"][before] >= 4)
            buys += same * (user["behavior"][before] == 3)
        found.append(math.log1p(n))
        found += [(p - n * rate) / (n + 5.0) for p, rate in zip((likes, buys), rates, strict=True)]
    return found


@pytest.mark.parametrize("window", ["newest", "sliding", "random"])
def test_all_that_came_before_is_counted_whatever_the_window(window: str, shards: ShardFolder) -> None:
    task = task_of(shards, COUNTERS, LABELS)
    task.model.offset.copy_(torch.tensor([0.3, -0.5, 2.0]))
    rates = [1 / (1 + math.exp(-z)) for z in (0.3, -0.5)]
    config = settings(f"loader.sampling.window={window}", "train.batch_sequences=5")
    loader = make_loader(config, sequences_of(shards, config, task.columns), shards.manifest.behaviors)
    checked = 0
    for batch in loader:
        numbers = task.model.counters(batch, task.model.offset.sigmoid()).tolist()
        for row, user in enumerate(batch.sequence.tolist()):
            times = USERS[user]["timestamp"]
            begin, end = batch.offsets[row : row + 2].tolist()
            last = len(times) - 1 if window == "newest" else None
            for event in range(begin, end):
                places = [p for p, t in enumerate(times) if t == int(batch.query_time[event])]
                if len(places) > 1:
                    continue  # a tie: not told by the time
                (place,) = places
                assert numbers[event] == pytest.approx(expected(USERS[user], place, rates), abs=1e-5)
                checked += 1
            assert last is None or int(batch.query_time[end - 1]) == times[last]
            assert numbers[batch.num_events + row] == [0.0] * task.model.counters.width
    loader.close()
    assert checked > 40


def test_heads_look_at_them(shards: ShardFolder) -> None:
    for head in ("dot", "mlp", "ffn", "mmoe", "ple"):
        task = task_of(shards, COUNTERS, f"task.head={head}")
        loader = make_loader(
            settings(), sequences_of(shards, settings(), task.columns), ["view", "cart", "buy"]
        )
        batch = next(iter(loader))
        loader.close()
        with torch.no_grad():
            one = task.model(batch)
            other = task.model(batch.with_values(**{"count brand": batch["count brand"] + 3.0}))
        assert (one != other).any(1)[: batch.num_events].float().mean() > 0.9
        cache, users = RankingCache.for_batch(task.model, batch, time="known"), range(batch.num_sequences)
        counts = np.ones(batch.num_sequences, np.int64)
        ends = batch.offsets[1:] - 1
        context = task.model.counters(batch, task.model.offset.sigmoid())[ends]
        found = cache.logits(users, batch["target_item"][ends], counts, context=context, new=batch)
        torch.testing.assert_close(found, one[ends], rtol=1e-4, atol=1e-4)
        with pytest.raises(ValueError, match="has counters"):
            cache.logits(users, batch["target_item"][ends], counts)


@pytest.mark.parametrize(
    ("counters", "why"),
    [("[size]", "is a number"), ("[shop]", "no item feature 'shop'"), ("[user, user]", "twice")],
)
def test_counters_that_make_no_sense_are_refused(counters: str, why: str, shards: ShardFolder) -> None:
    with pytest.raises(UserError, match=why):
        task_of(shards, f"task.counters={counters}")
