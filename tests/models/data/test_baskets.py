"""Targets that are drawn from the next basket, against one event at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, make_loader
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.data.loading import MemorySource
from tests.models.shards import User, World, load, write_shards

FIRST = 2
WORLD = World(num_items=30, behaviors=("view", "buy"), targets=("buy",), split={"kind": "next_basket"})
SETTINGS = ["loss.loss_on=basket", "train.batch_sequences=3", "model.max_length=9", "train.device=cpu"]


def shoppers(count: int = 8) -> list[User]:
    """Baskets of one to four events, some only viewed, some unknown; the last two are not for training."""
    random = np.random.default_rng(0)
    users = []
    for _ in range(count):
        sizes = random.integers(1, 5, random.integers(4, 7)).tolist()
        times = np.repeat(np.cumsum(random.integers(1, 4, len(sizes))), sizes).tolist()
        length = len(times)
        items = random.integers(1, FIRST + 30, length).tolist()
        behaviors = random.integers(1, 3, length).tolist()
        train_end, valid_end = length - sizes[-1] - sizes[-2], length - sizes[-1]
        users.append(User(items, train_end, valid_end, behaviors, times))
    # A basket that a cut divides: what comes after the cut is never drawn. And one after another user's end.
    users.append(User([2, 3, 4, 5], 2, 3, [2, 2, 2, 2], [1, 2, 2, 2]))
    return [*users, User([6, 7, 8, 9], 2, 3, [2, 2, 2, 2], [2, 3, 4, 5])]


def batches(config: RunConfig, shards: Path, epochs: int) -> list[list[PackedBatch]]:
    """Of some epochs."""
    loader = make_loader(config, MemorySource([load(shards)]), ("view", "buy"))
    made = [list(loader) for _ in range(epochs)]
    loader.close()
    return made


def possible(user: User, place: int) -> list[tuple[int, int]]:
    """(item, time) that the event at a place may predict, by the rule."""
    after = user.timestamp[place + 1]
    if user.timestamp[place] == after:
        return []
    at = [n for n in range(user.train_end) if user.timestamp[n] == after]
    return [(user.item[n], after) for n in at if user.behavior[n] == 2 and user.item[n] >= FIRST]


@pytest.mark.parametrize("time", ["known", "unknown"])
def test_targets_are_events_of_the_next_basket(time: str, tmp_path: Path) -> None:
    """Each of them as often as the others over the epochs, and the same in whatever batches."""
    users = shoppers()
    shards = write_shards(tmp_path, users, WORLD)
    config = load_config("default", [*SETTINGS, f"model.time={time}", "train.epochs=200"])
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    for epoch in batches(config, shards, 200):
        for batch in epoch:
            for row, start, stop in zip(
                batch.sequence.tolist(), batch.offsets.tolist(), batch.offsets[1:].tolist(), strict=False
            ):
                user = users[row]
                first = user.train_end - 1 - (stop - start)
                for place, token in enumerate(range(start, stop), first):
                    target = int(batch.target[token])
                    found[row, place].append(target)
                    if target:
                        known = user.timestamp[place + 1] if time == "known" else user.timestamp[place]
                        assert int(batch.query_time[token]) == known
                        assert int(batch.target_behavior[token]) == 2
    assert len(found) > 40
    several = 0
    for (row, place), targets in found.items():
        wanted = Counter(item for item, _ in possible(users[row], place))
        counts = Counter(targets)
        if not wanted:
            assert set(counts) == {0}
            continue
        assert set(counts) == set(wanted)
        several += len(wanted) > 1
        for item, times in wanted.items():
            share = times / wanted.total()
            assert abs(counts[item] / 200 - share) < 5 * (share * (1 - share) / 200) ** 0.5 + 1e-9
    assert several > 5
    alone = load_config("default", [*SETTINGS, f"model.time={time}", "train.batch_sequences=1"])
    again: dict[tuple[int, int], int] = {}
    for batch in batches(alone, shards, 1)[0]:
        (row,) = batch.sequence.tolist()
        again |= {
            (row, users[row].train_end - 1 - len(batch.target) + n): int(t)
            for n, t in enumerate(batch.target)
        }
    assert again == {key: targets[0] for key, targets in found.items()}


def test_baskets_need_time(tmp_path: Path) -> None:
    world = replace(WORLD, timestamp_unit="none", split={"kind": "leave_one_out"})
    shards = write_shards(tmp_path, [User([2, 3, 4], 1, 2, [2, 2, 2])], world)
    config = load_config("default", [*SETTINGS, "model.bias=position"])
    with pytest.raises(UserError, match="has no timestamps") as caught:
        build_task(config, open_shards(shards))
    assert caught.value.where == "loss.loss_on = basket"
    dumped = config.model_dump()
    dumped["loss"]["next_behavior_weight"] = 0.5
    with pytest.raises(UserError, match="with loss_on: basket"):
        parse_config(RunConfig, dumped, where="here")
