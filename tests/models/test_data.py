"""The loader against plain Python lists."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards import open_shards
from models.batch import PackedBatch
from models.data import SequenceData, dataset_digest, load_sequences, repeats_targets
from models.loader import TrainLoader
from models.windows import gather, history_windows, training_windows
from tests.models.shards import User, World, leave_one_out, write_shards

USERS = [
    User([2, 3, 4, 5, 6, 7], 4, 5, behavior=[1, 2, 1, 2, 2, 2], timestamp=[10, 20, 20, 30, 45, 50]),
    User([5], 1, 1),
    User([3, 1, 2, 6], 3, 4, behavior=[2, 2, 2, 2], timestamp=[7, 8, 9, 11]),
    User([4, 4], 2, 2),
    User([6, 5, 2], 0, 1),
]
WORLD = World(num_items=6, behaviors=("view", "buy"), targets=("buy",), files=2)


@pytest.fixture
def data(tmp_path: Path) -> SequenceData:
    return load_sequences(open_shards(write_shards(tmp_path / "data", USERS, WORLD)))


def rows(batch: PackedBatch, column: str) -> list[list[int]]:
    """A column of a batch, one list a sequence."""
    flat, cuts = getattr(batch, column).tolist(), batch.offsets.tolist()
    return [flat[a:b] for a, b in pairwise(cuts)]


def test_files_are_read_in_order_and_whole(data: SequenceData) -> None:
    assert [data.item[a:b].tolist() for a, b in pairwise(data.offsets)] == [list(user.item) for user in USERS]
    assert data.train_end.tolist() == [4, 1, 3, 2, 0]
    assert data.valid_end.tolist() == [5, 1, 4, 2, 1]
    assert data.target_behaviors == (2,)
    assert (data.first_item, data.num_item_ids, data.num_items, data.has_time) == (2, 8, 6, True)


@pytest.mark.parametrize(("unit", "a_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_timestamps_become_whole_seconds(tmp_path: Path, unit: str, a_second: int) -> None:
    times = [-1, 0, a_second - 1, a_second, 5 * a_second + a_second // 2]
    users = [User([2, 3, 4, 2, 3], 5, 5, timestamp=times)]
    shards = open_shards(write_shards(tmp_path, users, World(num_items=3, timestamp_unit=unit)))
    assert load_sequences(shards).timestamp.tolist() == [time // a_second for time in times]


def test_data_without_time(tmp_path: Path) -> None:
    world = World(num_items=6, timestamp_unit="none")
    data = load_sequences(open_shards(write_shards(tmp_path, leave_one_out([2, 3, 4, 5]), world)))
    batch = gather(data, training_windows(data, 10), time="known")
    assert not batch.has_time
    assert batch.timestamp.tolist() == batch.query_time.tolist() == [0]


def test_no_sequences_is_an_error(tmp_path: Path) -> None:
    shards = open_shards(write_shards(tmp_path, [], World(num_items=1)))
    with pytest.raises(UserError, match="no sequences"):
        load_sequences(shards)


def test_a_cut_outside_its_sequence_is_an_error(tmp_path: Path) -> None:
    shards = open_shards(write_shards(tmp_path, [User([2, 3], 1, 3)], World(num_items=2)))
    with pytest.raises(UserError, match="damaged"):
        load_sequences(shards)


def test_the_digest_follows_the_content_not_the_place(tmp_path: Path) -> None:
    digests = [
        dataset_digest(open_shards(write_shards(tmp_path / name, users, WORLD)))
        for name, users in [("a", USERS), ("b", USERS), ("c", USERS[:-1])]
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("max_length", [1, 2, 3, 10])
@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("loss_on", ["all", "targets"])
def test_training_batches_against_lists(data: SequenceData, max_length: int, time: str, loss_on: str) -> None:
    """Inputs are the newest N of what has a next training event; target and known time are that event's."""
    loader = TrainLoader(data, max_length=max_length, batch_size=2, time=time, loss_on=loss_on)
    assert loader.skipped == 2
    seen = set()
    for batch in loader:
        batch.validate()
        for column in zip(
            batch.sequence.tolist(),
            *(
                rows(batch, n)
                for n in ("item", "behavior", "timestamp", "query_time", "target", "target_behavior")
            ),
            strict=True,
        ):
            number, item, behavior, timestamp, query_time, target, target_behavior = column
            user = USERS[number]
            behaviors = user.behavior or [1] * len(user.item)
            times = user.timestamp or [60 * i for i in range(len(user.item))]
            inputs = range(max(0, user.train_end - 1 - max_length), user.train_end - 1)
            following = [i + 1 for i in inputs]
            assert item == [user.item[i] for i in inputs]
            assert behavior == [behaviors[i] for i in inputs]
            assert timestamp == [times[i] for i in inputs]
            assert query_time == [times[i] for i in (following if time == "known" else inputs)]
            assert target_behavior == [behaviors[i] for i in following]
            assert target == [
                user.item[i] if user.item[i] >= 2 and (loss_on == "all" or behaviors[i] == 2) else 0
                for i in following
            ]
            seen.add(number)
    assert seen == {0, 2, 3}


@pytest.mark.parametrize("time", ["known", "unknown"])
def test_the_last_input_predicts_a_target_that_may_stand_further_on(data: SequenceData, time: str) -> None:
    """The history of all is the same three events, cut to the newest two; each asks for its own target."""
    target = np.array([3, 4, 5])
    windows = history_windows(data, np.zeros(3, dtype=np.int64), np.full(3, 3), target, 2)
    for chosen in (windows, windows.take(np.arange(3))):
        batch = gather(data, chosen, time=time).validate()  # type: ignore[arg-type]
        assert rows(batch, "item") == [[3, 4]] * 3
        assert rows(batch, "target") == [[4, item] for item in (5, 6, 7)]
        assert rows(batch, "target_behavior") == [[1, 2]] * 3
        known = [[20, stamp] for stamp in (30, 45, 50)]
        assert rows(batch, "query_time") == (known if time == "known" else [[20, 20]] * 3)


def test_the_manifest_tells_which_targets_are_evaluated(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], tuple[str, bool]]] = [
        ({"kind": "leave_one_out"}, ("first", False)),
        ({"kind": "next_basket"}, ("all", True)),
        ({"kind": "next_basket", "targets": "first"}, ("first", True)),
        ({"kind": "temporal", "targets": "all", "valid_at": 1, "test_at": 2}, ("all", False)),
    ]
    for split, expected in cases:
        data = load_sequences(open_shards(write_shards(tmp_path, USERS, replace(WORLD, split=split))))
        assert (data.evaluated, data.in_baskets) == expected


def order(loader: TrainLoader) -> list[list[int]]:
    return [batch.sequence.tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def many(tmp_path: Path) -> SequenceData:
    users = [User([2] * (2 + i % 7), 2 + i % 7, 2 + i % 7) for i in range(40)]
    return load_sequences(open_shards(write_shards(tmp_path, users, World(num_items=1))))


def test_every_epoch_visits_all_in_another_order_that_only_the_seed_decides(tmp_path: Path) -> None:
    data = many(tmp_path)
    loader = TrainLoader(data, max_length=5, batch_size=16, seed=3)
    first, second = order(loader), order(loader)
    assert [len(batch) for batch in first] == [16, 16, 8]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(40))
    assert flat(first) != flat(second)
    again = TrainLoader(data, max_length=5, batch_size=10, seed=3)
    assert flat(order(again)) == flat(first)
    assert flat(order(TrainLoader(data, max_length=5, seed=4))) != flat(first)


@settings(max_examples=50, deadline=None)
@given(budget=st.integers(1, 60), lengths=st.lists(st.integers(2, 12), min_size=1, max_size=30))
def test_a_token_budget_is_filled_greedily(budget: int, lengths: list[int]) -> None:
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    data = SequenceData(
        item=np.full(offsets[-1], 2, dtype=np.int32),
        behavior=np.ones(offsets[-1], dtype=np.int8),
        timestamp=np.zeros(offsets[-1], dtype=np.int64),
        offsets=offsets,
        train_end=np.array(lengths),
        valid_end=np.array(lengths),
        has_time=False,
        target_behaviors=(1,),
        first_item=2,
        num_item_ids=3,
        num_behaviors=1,
    )
    loader = TrainLoader(data, max_length=8, batch_tokens=budget)
    sequence = flat(order(loader))
    loader.load_state_dict({"epoch": 0, "seen": 0})
    expected: list[list[int]] = []
    tokens = budget + 1
    for number in sequence:
        length = min(lengths[number] - 1, 8)
        if tokens + length > budget:
            expected.append([])
            tokens = 0
        expected[-1].append(number)
        tokens += length
    assert len(loader) == len(expected)
    assert order(loader) == expected


@pytest.mark.parametrize("batch_tokens", [None, 30])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_loaded_state_visits_exactly_the_rest(
    tmp_path: Path, batch_tokens: int | None, stop_after: int
) -> None:
    data = many(tmp_path)

    def fresh() -> TrainLoader:
        return TrainLoader(data, max_length=5, batch_size=16, batch_tokens=batch_tokens, seed=1)

    whole = fresh()
    order(whole)
    second, third = order(whole), order(whole)
    cut = fresh()
    order(cut)
    batches = iter(cut)
    visited = [next(batches).sequence.tolist() for _ in range(stop_after)]
    resumed = fresh()
    resumed.load_state_dict(cut.state_dict())
    assert resumed.batches_left == len(second) - stop_after
    assert visited + order(resumed) == second
    assert order(resumed) == third


def test_repeats_are_looked_for_among_training_targets_only(tmp_path: Path) -> None:
    def repeats(user: User) -> bool:
        return repeats_targets(
            load_sequences(open_shards(write_shards(tmp_path, [user, User([3, 4], 2, 2)], WORLD)))
        )

    assert repeats(User([3, 5, 3], 3, 3, behavior=[2, 1, 2]))
    assert not repeats(User([3, 5, 3], 2, 2, behavior=[2, 1, 2]))  # the second one is a test event
    assert not repeats(User([3, 5, 3], 3, 3, behavior=[1, 1, 2]))  # the first one is no target
    assert not repeats(User([1, 5, 1], 3, 3, behavior=[2, 2, 2]))  # two unknown items need not be the same
