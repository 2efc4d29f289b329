"""Candidates after remembered histories, in micro-batches: the logits of each as the next item alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from behavior.shards.folder import ShardFolder, open_shards
from behavior.shards.manifest import FeatureEntry
from models.backbones import BACKBONES
from models.build import sequences_of
from models.data.windows import Windows, gather
from models.serving.cache import RankingCache
from tests.models.shards import USERS as OTHERS
from tests.models.shards import WORLD, write_shards
from tests.models.tasks.ranking.test_ranking_model import ORDERS
from tests.models.tasks.ranking.world import FIRST, ITEMS, N, events_of, settings, task_of, write

USERS = events_of(7, seed=3)
RICH = ("embedding.event_features=[device]", "task.known_features=[price]", "task.label=[value>=4, buy]")
KINDS: list[tuple[str, ...]] = [
    *((f"model.kind={kind}",) for kind in BACKBONES),
    ("model.attention_window=2", "model.attention_global=1"),
    ("model.bias=decay",),
    ("model.kind=sasrec", "embedding.positions=attention_only"),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def histories(task: Any, shards: ShardFolder, time: Any) -> Any:
    """Of each user all events but the last one, at most N; one user has none."""
    (data,) = sequences_of(shards, settings(), task.columns)
    user = np.arange(len(USERS))
    begin, last = data.offsets[:-1], data.offsets[1:] - 1
    start = np.maximum(begin, last - N)
    start[0] = last[0]
    return data, gather(data, Windows(user, start, last, last), time=time)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_candidates_have_the_logits_of_the_next_item(
    order: str, kind: tuple[str, ...], time: str, shards: ShardFolder
) -> None:
    task = task_of(shards, *RICH, *kind, f"task.actions={order}", f"model.time={time}")
    model = task.model
    _, batch = histories(task, shards, time)
    generator = torch.Generator().manual_seed(1)
    counts = [3, 0, 4, 1, 2, 5, 1]
    whose = np.repeat(np.arange(len(counts)), counts)
    items = torch.randint(FIRST, FIRST + ITEMS, (sum(counts),), generator=generator)
    price = torch.randn(sum(counts), generator=generator)
    cache = RankingCache.for_batch(model, batch, time=time)
    found = cache.logits(range(7), items, counts, known={"price": price}, new=batch, at_once=2)
    offsets = batch.offsets.tolist()
    for number, user in enumerate(whose.tolist()):
        if offsets[user] == offsets[user + 1]:
            continue
        # The same history, with the candidate in the place of the item after it.
        item, told = batch["target_item"].clone(), batch["target_price"].clone()
        item[offsets[user + 1] - 1], told[offsets[user + 1] - 1] = items[number], price[number]
        with torch.no_grad():
            logits = model(batch.with_values(target_item=item, target_price=told))[offsets[user + 1] - 1]
        torch.testing.assert_close(found[number], logits, rtol=1e-4, atol=1e-4)


def test_a_user_without_events_and_another_time(shards: ShardFolder) -> None:
    task = task_of(shards, "task.label=buy")
    data, batch = histories(task, shards, "known")
    assert batch.lengths[0] == 0
    cache = RankingCache.for_batch(task.model, batch, time="known")
    bare = gather(data, Windows(*(np.array([value]) for value in (0, 0, 1, 0))), time="known")
    with torch.no_grad():
        first = task.model(bare, torch.tensor([1]))[0]
    item = int(data.item[0])
    counts = [1, 0, 0, 0, 0, 0, 1]
    found = cache.logits(range(7), [item, 3], counts, [int(data.timestamp[0])] + [10**6] * 6, new=batch)
    torch.testing.assert_close(found[0], first, rtol=1e-4, atol=1e-4)
    end = int(batch.offsets[-1]) - 1
    item_column, time_column = batch["target_item"].clone(), batch.query_time.clone()
    item_column[end], time_column[end] = 3, 10**6
    with torch.no_grad():
        expected = task.model(batch.with_values(target_item=item_column, query_time=time_column))[end]
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="counts of 7 users"):
        cache.logits(range(7), [3, 4], [*counts[:-1], 0], new=batch)


@pytest.mark.parametrize("order", ORDERS)
def test_features_of_users_stand_before_histories(order: str, tmp_path: Path) -> None:
    """Of two that grow, one of them past its window, and of one without an event."""
    gender = FeatureEntry(name="gender", kind="categorical", encoding="vocabulary", vocabulary_size=4)
    world = replace(
        WORLD, files=1, user_features=[gender], user_columns={"gender": pa.array([2, 3, 2, 3, 2], pa.int32())}
    )
    shards = open_shards(write_shards(tmp_path, OTHERS, world))
    task = task_of(shards, "task.label=buy", "embedding.user_features=all", f"task.actions={order}")
    (data,) = sequences_of(shards, settings(), task.columns)
    cache = RankingCache(task.model, 1 << 20, time="known", window=4, page_events=2)
    users, items, at = np.array([0, 2, 1]), [4, 5, 3, 6], 60
    first = data.offsets[users]

    def batch_of(begin: Any, end: Any) -> Any:
        return gather(data, Windows(users, first + begin, first + end, first + end), time="known")

    for begin, end in (([0, 0, 0], [2, 1, 0]), ([2, 1, 0], [3, 1, 0]), ([3, 1, 0], [5, 3, 0])):
        new = batch_of(begin, end)
        found = cache.logits(users, items, [2, 1, 1], at, new=new)
        whole = batch_of(np.maximum(np.array(end) - 4, 0), np.add(end, [0, 0, 1]))
        ends = (whole.offsets[1:] - 1).tolist()
        rows = [ends[0], ends[0], ends[1], whole.num_events + 2]
        for logits, row, item in zip(found, rows, items, strict=True):
            columns = {name: whole[name].clone() for name in ("target_item", "query_time", "item")}
            if row < whole.num_events:
                columns["target_item"][row], columns["query_time"][row] = item, at
            else:  # the first item of a sequence is an event's own
                columns["item"][ends[2]] = item
            with torch.no_grad():
                expected = task.model(whole.with_values(**columns))[row]
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
