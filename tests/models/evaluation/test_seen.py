"""`evaluation.exclude_seen: auto` decides by the share of repeated targets, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import rank_split
from models.evaluation.scores import RowScores
from models.evaluation.seen import SeenItems, repeated_targets
from models.evaluation.targets import evaluated_users
from tests.models.shards import User, World, load, write_shards

WORLD = World(num_items=5, behaviors=("view", "buy"), targets=("buy",))


@pytest.mark.parametrize(
    ("behavior", "item", "repeats"),
    [
        ([2, 1, 2], [3, 5, 3], 1),
        ([2, 2, 2], [3, 3, 3], 2),
        ([1, 1, 2], [3, 5, 3], 0),  # the first one is no target
        ([2, 2, 2], [1, 5, 1], 0),  # two unknown items need not be the same
    ],
)
@pytest.mark.parametrize("train_end", [0, 2, 3])
def test_repeats_are_counted_in_whole_histories(
    tmp_path: Path, behavior: list[int], item: list[int], repeats: int, train_end: int
) -> None:
    users = [User([3, 4], 2, 2, behavior=[2, 2]), User(item, train_end, 3, behavior)]
    known = sum(kind == 2 and what > 1 for kind, what in zip(behavior, item, strict=True))
    assert repeated_targets(load(write_shards(tmp_path, users, WORLD))) == (repeats, 2 + known)


@pytest.mark.parametrize(("repeats", "excluded"), [(0, True), (1, True), (2, True), (3, False)])
def test_auto_hangs_on_a_share_not_on_a_row(tmp_path: Path, repeats: int, excluded: bool) -> None:
    """Of 200 purchases up to 1 % repeat one."""
    pairs = [[2, 2]] * repeats + [[2, 3]] * (100 - repeats)
    users = [User(pair, 2, 2, behavior=[2, 2]) for pair in pairs]
    source = ShardSource(open_shards(write_shards(tmp_path, users, replace(WORLD, files=2))))
    seen = SeenItems.resolve(source, "auto")
    assert seen.excluded is excluded
    assert f"{repeats} of 200 target events repeat an item" in seen.reason
    for setting in (True, False):
        assert SeenItems.resolve(source, setting) == SeenItems(setting, "as set")


def test_repeats_after_the_training_part_keep_seen_items(tmp_path: Path) -> None:
    """A user who comes back to items only in the held-out parts: all targets would be misses."""
    data = load(write_shards(tmp_path, [User([2, 3, 2, 3], 2, 3, behavior=[2] * 4)], WORLD))
    found = rank_split(
        [data],
        lambda _, targets: RowScores(torch.zeros(len(targets), 5)),
        split="test",
        config=EvaluationConfig(),
    )
    assert found.seen.excluded is False
    assert found.misses() == {"oov_targets": 0, "excluded_targets": 0}


def test_misses_of_some_targets(tmp_path: Path) -> None:
    users = [
        User([2, 2], 0, 1, behavior=[2, 2]),  # removed
        User([2, 1], 0, 1, behavior=[2, 2]),  # unknown
        User([2, 3], 0, 1, behavior=[2, 2]),
        User([4], 0, 0, behavior=[2]),  # no history
    ]
    data = load(write_shards(tmp_path, users, WORLD))
    found = rank_split(
        [data],
        lambda _, targets: RowScores(torch.zeros(len(targets), 5)),
        split="test",
        config=EvaluationConfig(exclude_seen=True),
    )
    assert found.misses() == {"oov_targets": 1, "excluded_targets": 1}
    assert [tuple(found.misses(slice(i, i + 1)).values()) for i in range(3)] == [(0, 1), (1, 0), (0, 0)]
    assert evaluated_users(data, "test") == 3
    assert evaluated_users(data, "valid") == 0
