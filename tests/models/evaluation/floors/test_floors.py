"""Floors against plain Python on small random logs, and against what is known of MovieLens-1M."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from behavior.cooccurrence import CooccurrenceTable
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.sequences import SequenceData
from models.evaluation.baselines import BASELINES, evaluate_baseline, evaluate_baselines, evaluate_data_set
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors import floors as module
from models.evaluation.floors.choice import climb, scan
from models.evaluation.floors.counts import Cooccurrence
from models.evaluation.floors.floors import DEFAULTS, Floors
from models.evaluation.floors.votes import Popularity, Votes, VoteScores
from models.evaluation.ranking import rank_split
from models.evaluation.scores import RowScores, Scores
from models.evaluation.targets import Targets, find_targets
from tests.models.evaluation.domain_world import make_log
from tests.models.evaluation.floors.oracle import FIRST, Oracle, random_users
from tests.models.shards import Columns, User, World, leave_one_out, load, write_shards

SPLITS: list[dict[str, Any]] = [
    {"kind": "leave_one_out"},
    {"kind": "next_basket"},
    {"kind": "temporal", "targets": "all", "valid_at": "2024-06-01", "test_at": "2024-07-01"},
]
# Decays of which sums are exact, so that ties are.
POINTS: dict[str, list[dict[str, float]]] = {
    "frequency": [{"decay": 1.0}, {"decay": 0.5}],
    "cooccurrence": [
        {"decay": 0.5, "backward": 0.0, "popularity_power": 0.0, "window": 2},
        {"decay": 1.0, "backward": 0.5, "popularity_power": 0.0, "window": 3},
        {"decay": 0.5, "backward": 0.25, "popularity_power": 0.5, "window": 4},
    ],
}
POINTS["open+cooccurrence"] = POINTS["cooccurrence"]


def fixed(floors: Floors, name: str, point: dict[str, float]) -> Floors:
    """The same with a choice that is made already."""
    floors._points[name] = (point, {})
    return floors


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("description", SPLITS, ids=lambda description: description["kind"])
@pytest.mark.parametrize("name", BASELINES)
def test_every_floor_against_plain_python(
    tmp_path: Path, name: str, description: dict[str, Any], exclude_seen: bool
) -> None:
    users = random_users(len(name))
    world = World(9, behaviors=("view", "cart", "buy"), targets=("buy",), files=2, split=description)
    shards = open_shards(write_shards(tmp_path, users, world))
    config = EvaluationConfig(exclude_seen=exclude_seen, bootstrap=0)
    cases = itertools.product(
        [("valid", "train"), ("test", "train"), ("test", "train+valid")], POINTS.get(name, [{}])
    )
    for (split, counts), point in cases:
        floors = fixed(Floors(shards, split, config, counts=counts), name, point)
        rankings = floors.judge(name).rankings
        found = zip(rankings.user.tolist(), rankings.position.tolist(), rankings.rank.tolist(), strict=True)
        oracle = Oracle(users, world, counts)
        assert list(found) == oracle.ranks(name, split, point, exclude_seen=exclude_seen), (
            split,
            counts,
            point,
        )


@pytest.mark.parametrize("name", ["recency", "frequency", "open+cooccurrence"])
def test_ranks_are_those_of_the_table_of_all_scores(tmp_path: Path, name: str) -> None:
    """Any number of candidates, targets that share a query, and threads."""
    users = random_users(5, users=200)
    world = World(9, behaviors=("view", "buy", "gift"), targets=("buy", "gift"), files=1)
    shards = open_shards(write_shards(tmp_path, users, world))
    floors = fixed(Floors(shards), name, POINTS.get(name, [{}])[-1])
    data = load(tmp_path)
    targets = find_targets(data, "test")
    targets = targets.take(np.flatnonzero(targets.stop > data.offsets[targets.sequence]))
    scores = floors._scorer(name, floors._points[name][0], "train")(data, targets)
    random = np.random.default_rng(0)
    query = random.permutation(np.repeat(np.arange(len(targets)), 2))
    target = random.integers(-1, 7, len(query))
    seen = (random.integers(0, len(query), 300), random.integers(0, 7, 300))
    for excluded, index in itertools.product([None, seen], [None, query]):
        wanted, left_out = (target, excluded) if index is not None else (target[: len(targets)], None)
        expected = Scores.rank(scores, index, wanted, 7, left_out)
        for threads in (1, 3):
            again = VoteScores(scores.data, scores.targets, scores.votes, scores.popularity, threads)
            assert torch.equal(again.rank(index, wanted, 7, left_out), expected)


def test_threads_share_many_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.floors.votes._FEW", 7)
    users = random_users(1, users=100)
    data = load(write_shards(tmp_path, users, World(9, behaviors=("a", "b", "c"), targets=("b",))))
    targets = find_targets(data, "test")
    popularity = Popularity(np.arange(9.0))
    ranks = [
        VoteScores(data, targets, Votes("decayed", 0.5), popularity, threads).rank(
            None, np.arange(len(targets)) % 9, 9
        )
        for threads in (1, 4)
    ]
    assert torch.equal(*ranks)


def test_votes_that_vanish_leave_the_order_to_popularity(tmp_path: Path) -> None:
    """0.5^2000 is 0: the oldest item has a vote of nothing, and is not counted twice."""
    items = [2, *[3] * 2000]
    data = load(write_shards(tmp_path, [User([*items, 4], len(items), len(items))], World(4)))
    targets = find_targets(data, "test")
    scores = VoteScores(data, targets, Votes("decayed", 0.5), Popularity(np.array([5.0, 1.0, 5.0, 7.0])))
    ranks = [scores.rank(None, np.array([item]), 4).item() for item in range(4)]
    assert ranks == [4, 1, 4, 2]  # the items 2 and 4 tie behind 3, which has votes, and 5, the most popular


def test_only_floors_that_make_sense(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "one", leave_one_out([2, 3, 4, 5], [3, 2, 5, 4]), World(4))
    found, left_out = evaluate_baselines(None, folder, config=EvaluationConfig(exclude_seen=True))
    assert set(found) == {"popularity", "markov", "cooccurrence"}
    assert set(left_out) == set(BASELINES) - set(found)
    assert "every behavior is a target" in left_out["open"]
    assert "seen items are removed" in left_out["recency"]
    kept, left_out = evaluate_baselines(None, folder, config=EvaluationConfig(exclude_seen=False))
    assert set(left_out) == {"open", "open+cooccurrence"}
    assert [report["model"] for report in kept.values()] == [name for name in BASELINES if name in kept]
    with pytest.raises(UserError, match="'open' makes no sense here: every behavior is a target"):
        evaluate_baseline("open", folder)
    with pytest.raises(UserError, match="no baseline 'popular'"):
        evaluate_baseline("popular", folder)


def test_counts_never_hold_what_is_asked(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, leave_one_out([2, 3, 4, 5], [3, 2, 5, 4]), World(4))
    with pytest.raises(UserError, match="know what they are asked"):
        evaluate_baseline("popularity", folder, "valid", counts="train+valid")
    with pytest.raises(UserError, match="no counts 'all'"):
        evaluate_baseline("popularity", folder, counts="all")  # type: ignore[arg-type]
    report = evaluate_data_set(
        folder, names=["popularity", "frequency"], counts="train+valid", exclude_seen=False
    )
    assert report["counts"] == report["baselines"]["frequency"]["counts"] == "train+valid"


def test_popularity_counts_the_training_part_only(tmp_path: Path) -> None:
    # 2 leads in training; counting everything, 3 would.
    rows = [[2, 2, 4, 3], [2, 4, 3, 3], [4, 2, 3, 3]]
    folder = write_shards(tmp_path, leave_one_out(*rows), World(num_items=3))
    metrics = evaluate_baseline("popularity", folder, "test")
    assert metrics["exclude_seen"] is False
    # The target 3 stands last of three each time: it is not trained on.
    assert metrics["mrr@10"] == pytest.approx(1 / 3)
    assert (metrics["model"], metrics["counts"]) == ("popularity", "train")
    # With the validation events it is as frequent as 4, and 2 leads.
    again = evaluate_baseline("popularity", folder, "test", counts="train+valid")
    assert again["mrr@10"] == pytest.approx(1 / 3)
    assert again["counts"] == "train+valid"


@pytest.mark.parametrize("name", ["frequency", "cooccurrence"])
def test_what_is_left_open_is_chosen_on_validation(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the validation part alone, and with counts of the training part, whatever the test's are."""
    grids = {
        "frequency": {"decay": (1.0, 0.5)},
        "cooccurrence": {
            "decay": (0.5, 1.0),
            "backward": (0.0, 0.5),
            "popularity_power": (0.0,),
            "window": (2, 4),
        },
    }
    monkeypatch.setattr(module, "FREQUENCY", grids["frequency"])
    monkeypatch.setattr(module, "COOCCURRENCE", grids["cooccurrence"])
    start = {"decay": 0.5, "backward": 0.0, "popularity_power": 0.0, "window": 2}
    monkeypatch.setattr(module, "START", start)
    users = random_users(4, users=60)
    world = World(9, behaviors=("view", "cart", "buy"), targets=("buy",))
    shards = open_shards(write_shards(tmp_path, users, world))
    oracle = Oracle(users, world)

    def value(point: dict[str, float]) -> float:
        ranks = [rank for _, _, rank in oracle.ranks(name, "valid", point, exclude_seen=False)]
        return sum(1 / np.log2(1 + rank) for rank in ranks if rank <= 10)

    names = list(grids[name])
    points = [dict(zip(names, values, strict=True)) for values in itertools.product(*grids[name].values())]
    best = max(value(point) for point in points)
    config = EvaluationConfig(exclude_seen=False, bootstrap=0)
    for counts in ("train", "train+valid"):
        report = Floors(shards, config=config, counts=counts).judge(name).report()
        assert value(report["chosen"]) == pytest.approx(best)
        validated = {user for user, _, _ in oracle.ranks(name, "valid", points[0], exclude_seen=False)}
        assert report["chosen_on"] == f"ndcg@10 of {len(validated)} validated users"


def test_a_choice_by_some_of_many_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.evaluation.floors.choice.MOST_USERS", 10)
    rows = [[2, 3, 4, 2, 3]] * 35
    shards = open_shards(write_shards(tmp_path, leave_one_out(*rows), World(4, files=2)))
    report = Floors(shards, config=EvaluationConfig(exclude_seen=False)).judge("frequency").report()
    assert report["chosen_on"] == "ndcg@10 of 9 validated users"  # each fourth


def test_a_choice_counts_some_of_a_large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen by counts of some users is evaluated by those of all."""
    asked = []
    count = Cooccurrence._count

    def counting(self: Cooccurrence, window: int, backward: float) -> CooccurrenceTable:
        asked.append(len(self._histories.item))
        return count(self, window, backward)

    monkeypatch.setattr(Cooccurrence, "_count", counting)
    monkeypatch.setattr(module, "MOST_EVENTS", 40)
    rows = [[2, 3, 4, 2, 3]] * 35
    shards = open_shards(write_shards(tmp_path, leave_one_out(*rows), World(4, files=2)))
    Floors(shards, config=EvaluationConfig(exclude_seen=False)).judge("cooccurrence")
    assert set(asked[:-1]) == {36}  # 105 events; each third user
    assert asked[-1] == 105


def test_defaults_where_nobody_is_validated(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, [User([2, 3, 2, 4], 3, 3), User([3, 2, 3], 2, 2)], World(4))
    report = evaluate_baseline("frequency", folder)
    assert report["chosen"] == DEFAULTS["frequency"]
    assert report["chosen_on"] == "defaults: nobody is validated"


def test_a_search_climbs_past_one_step_down() -> None:
    """Along one parameter at a time, to where no step of one or two is better; no point is asked twice."""
    asked = []

    def value(point: dict[str, float]) -> float:
        asked.append((point["a"], point["b"]))
        return -((point["a"] - 3) ** 2) - (point["b"] - point["a"]) ** 2 - 2 * (point["a"] == 1)

    grid = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert climb({"a": grid, "b": grid}, {"a": 0.0, "b": 3.0}, value) == {"a": 3.0, "b": 3.0}
    assert len(asked) == len(set(asked))
    assert climb({"a": grid, "b": grid}, {"a": 0.0, "b": 3.0}, lambda _: 1.0) == {"a": 0.0, "b": 3.0}
    assert scan({"a": grid}, lambda point: -abs(point["a"] - 2.5)) == {"a": 2.0}


def test_candidates_may_be_the_first_items_only(tmp_path: Path) -> None:
    """Items that a model has never seen are left out: targets among them are misses, and no rivals."""
    users = [User([5, 2, 3, 4], 2, 3), User([5, 5, 3, 5], 2, 3)]
    folder = write_shards(tmp_path, users, World(4))
    config = EvaluationConfig(cutoffs=[1, 2, 3], exclude_seen=False)
    report = evaluate_baseline("recency", folder, config=config, candidates=3)
    # User 0: 3, 2, and then 4, which is asked. User 1: 5 is no candidate.
    assert (report["hr@2"], report["hr@3"], report["candidates"]) == (0.0, 0.5, 3)


@pytest.fixture(scope="session")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MovieLens-1M, leave-one-out, ties in input order."""
    if "LRM_DATA" not in os.environ:
        pytest.skip("needs real data: set LRM_DATA to the folder that holds ml-1m/")
    text = (Path(os.environ["LRM_DATA"]) / "ml-1m" / "ratings.dat").read_text()
    ratings = np.array(text.replace("::", " ").split(), dtype=np.int64).reshape(-1, 4)
    ratings = ratings[np.lexsort((ratings[:, 3], ratings[:, 0]))]
    _, rank, counts = np.unique(ratings[:, 1], return_inverse=True, return_counts=True)
    by_count = np.argsort(np.argsort(-counts, kind="stable"))
    _, lengths = np.unique(ratings[:, 0], return_counts=True)
    columns = Columns(
        item=(by_count[rank] + FIRST).astype(np.int32),
        behavior=np.ones(len(ratings), dtype=np.int8),
        timestamp=ratings[:, 3],
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        train_end=lengths - 2,
        valid_end=lengths - 1,
    )
    return write_shards(tmp_path_factory.mktemp("ml-1m"), columns, World(num_items=len(counts)))


@pytest.mark.parametrize(("name", "ndcg"), [("popularity", 0.018), ("markov", 0.126)])
def test_known_results_on_movielens(movielens: Path, name: str, ndcg: float) -> None:
    metrics = evaluate_baseline(name, movielens, "test")
    assert metrics["users"] == 6040
    assert metrics["exclude_seen"] is True
    assert metrics["ndcg@10"] == pytest.approx(ndcg, abs=0.0005)


@pytest.mark.parametrize("name", ["popularity", "frequency", "open+cooccurrence"])
def test_rankings_within_a_domain_are_those_of_the_table_of_all_scores(tmp_path: Path, name: str) -> None:
    log = make_log({"kind": "leave_one_out"})
    shards = open_shards(log.write(tmp_path))
    config = EvaluationConfig(candidates="domain", exclude_seen=name == "open+cooccurrence", bootstrap=0)
    floors = fixed(Floors(shards, config=config), name, POINTS.get(name, [{}])[-1])
    found = floors.judge(name).rankings
    assert found.within_domain
    scorer = floors._scorer(name, floors._points[name][0], "train")

    def table(data: SequenceData, targets: Targets) -> Scores:
        scores = scorer(data, targets)
        return RowScores(scores.columns(0, data.about.num_items))

    expected = rank_split(floors.source, table, split="test", config=config)
    assert found.rank.tolist() == expected.rank.tolist()
    everywhere = fixed(Floors(shards, config=config.model_copy(update={"candidates": "all"})), name, {})
    everywhere._points = floors._points
    assert (everywhere.judge(name).rankings.rank > found.rank).any()


def test_only_the_targets_of_a_model(tmp_path: Path) -> None:
    log = make_log({"kind": "temporal", "targets": "all"})
    floors = Floors(open_shards(log.write(tmp_path)))
    all_targets = floors.judge("popularity").rankings
    some = replace(all_targets, **{name: getattr(all_targets, name)[1::3] for name in ("user", "position")})
    kept = floors.judge("popularity", like=some).rankings
    assert kept.user.tolist() == some.user.tolist()
    assert kept.position.tolist() == some.position.tolist()
    assert kept.rank.tolist() == all_targets.rank[1::3].tolist()
