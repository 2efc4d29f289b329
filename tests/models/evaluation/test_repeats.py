"""Repeat and explore targets against going through every history by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from behavior.shards.folder import open_shards
from behavior.summary.repeats import Repeats, count_repeats
from models.data.loading import ShardSource
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import evaluate_scorer, rank_split
from models.evaluation.rankings_table import write_rankings
from models.evaluation.report import RankingEvaluation
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Targets
from tests.models.shards import User, World, write_shards

FIRST, ITEMS = 2, 7
BEHAVIORS = ("view", "cart", "buy")
SPLITS: list[dict[str, Any]] = [
    {"kind": "leave_one_out"},
    {"kind": "next_basket"},
    {"kind": "temporal", "targets": "all", "valid_at": "2024-06-01", "test_at": "2024-07-01"},
]


def random_users(seed: int) -> list[User]:
    """Few items, unknown ones among them, so that much repeats; some without a history or a target."""
    random = np.random.default_rng(seed)
    users = []
    for length in random.integers(1, 12, 40).tolist():
        ends = np.sort(random.integers(0, length + 1, 2)).tolist()
        item, behavior = random.integers(1, FIRST + ITEMS, length), random.integers(1, 4, length)
        users.append(User(item.tolist(), *ends, behavior=behavior.tolist()))
    return users


def expected(
    users: Sequence[User], split: str, kind: str, targets: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(user, position, behavior of the latest earlier event or 0) of every target with a history."""
    found = []
    for number, user in enumerate(users):
        bounds = (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
        chosen = [place for place in range(*bounds) if user.behavior[place] in targets]
        for place in chosen[:1] if kind == "leave_one_out" else chosen:
            stop = bounds[0] if kind == "next_basket" else place
            earlier = 0
            for before in range(stop):
                if user.item[before] == user.item[place] >= FIRST:
                    earlier = user.behavior[before]
            if stop:
                found.append((number, place, earlier))
    return found


def constant(data: object, targets: Targets) -> Scores:
    return RowScores(torch.arange(ITEMS).double().expand(len(targets), -1))


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("description", SPLITS, ids=lambda description: description["kind"])
def test_repeats_against_going_through_histories(
    tmp_path: Path, split: Any, description: dict[str, Any]
) -> None:
    users = random_users(3)
    world = World(num_items=ITEMS, behaviors=BEHAVIORS, targets=("buy",), files=3, split=description)
    shards = open_shards(write_shards(tmp_path, users, world))
    config = EvaluationConfig(cutoffs=[2], exclude_seen=False, bootstrap=0, by=["repeat"], batch_size=3)
    rankings = rank_split(ShardSource(shards), constant, split=split, config=config)
    wanted = expected(users, split, description["kind"], [3])
    found = zip(rankings.user.tolist(), rankings.position.tolist(), rankings.earlier.tolist(), strict=True)
    assert list(found) == wanted
    assert {earlier for _, _, earlier in wanted} == {0, 1, 2, 3}

    report = RankingEvaluation.of(rankings, config, shards).report()
    for name, chosen in {
        "repeat": [1, 2, 3],
        "explore": [0],
        **{f"repeat: {name}": [number] for number, name in enumerate(BEHAVIORS, 1)},
    }.items():
        by_user: dict[int, list[float]] = {}
        for (user, _, earlier), rank in zip(wanted, rankings.rank.tolist(), strict=True):
            if earlier in chosen:
                by_user.setdefault(user, []).append(float(rank <= 2))
        part = report["repeats"][name]
        assert (part["targets"], part["users"]) == (sum(map(len, by_user.values())), len(by_user))
        assert part["hr@2"] == pytest.approx(np.mean([np.mean(hits) for hits in by_user.values()]))
        sliced = report["breakdown"]["repeat"][name]
        assert {key: sliced[key] for key in part} == part
    assert list(report["repeats"]) == list(report["breakdown"]["repeat"])
    # In training: both, without behaviors.
    metrics = evaluate_scorer(ShardSource(shards), constant, split=split, config=config)
    assert metrics["repeats"] == {name: report["repeats"][name] for name in ("repeat", "explore")}


@pytest.mark.parametrize("description", SPLITS, ids=lambda description: description["kind"])
def test_a_data_set_is_counted_as_its_evaluation_is(tmp_path: Path, description: dict[str, Any]) -> None:
    """What `lrm inspect` counts of the sequences themselves."""
    users = random_users(8)
    world = World(num_items=ITEMS, behaviors=BEHAVIORS, targets=("cart", "buy"), files=3, split=description)
    shards = open_shards(write_shards(tmp_path, users, world))
    found = Repeats.none(3)
    for entry in shards.sequence_files():
        found += count_repeats(shards.read_sequences(entry).combine_chunks(), shards.manifest)
    for split, counts in (("valid", found.valid), ("test", found.test)):
        wanted = Counter(earlier for *_, earlier in expected(users, split, description["kind"], [2, 3]))
        assert counts.tolist() == [wanted[number] for number in range(4)]
    events: Counter[int] = Counter()
    for user in users:
        last: dict[int, int] = {}
        for item, behavior in zip(user.item, user.behavior, strict=True):
            events[last.get(item, 0)] += 1
            if item >= FIRST:
                last[item] = behavior
    assert found.events.tolist() == [events[number] for number in range(4)]


def test_where_nothing_repeats_there_are_no_metrics_of_it(tmp_path: Path) -> None:
    users = [User([2, 3, 4, 5], 2, 3), User([1, 1, 1, 1], 2, 3)]
    shards = open_shards(write_shards(tmp_path, users, World(num_items=ITEMS)))
    config = EvaluationConfig(cutoffs=[2], bootstrap=0)
    rankings = rank_split(ShardSource(shards), constant, split="test", config=config)
    evaluation = RankingEvaluation.of(rankings, config, shards)
    # One behavior: no slices by behavior. An unknown item is nobody's.
    assert evaluation.report()["repeats"] == {
        "repeat": {"targets": 0, "users": 0},
        "explore": {
            "targets": 2,
            "users": 2,
            **{name: rankings.summary([2])[name] for name in ("hr@2", "ndcg@2", "mrr@2")},
        },
    }


def test_the_table_of_ranks_says_what_repeats(tmp_path: Path) -> None:
    users = [User([2, 3, 2, 2], 2, 3, behavior=[1, 3, 2, 3]), User([2, 3, 4, 5], 2, 3, behavior=[3, 3, 3, 3])]
    world = World(num_items=ITEMS, behaviors=BEHAVIORS, targets=("buy",))
    shards = open_shards(write_shards(tmp_path / "data", users, world))
    config = EvaluationConfig(cutoffs=[2])
    rankings = rank_split(ShardSource(shards), constant, split="test", config=config)
    write_rankings(RankingEvaluation.of(rankings, config, shards), tmp_path / "ranks.parquet")
    assert pq.read_table(tmp_path / "ranks.parquet")["earlier"].to_pylist() == ["cart", None]
