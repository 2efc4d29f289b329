"""Baselines against counting by hand, and against what is known of MovieLens-1M."""

from __future__ import annotations

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.evaluation.baselines import evaluate_baseline, markov_scorer, transition_counts
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import evaluate_scorer
from models.evaluation.targets import Targets
from tests.models.shards import Columns, User, World, leave_one_out, load, write_shards

FIRST = 2


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("baselines")


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=8), min_size=1, max_size=6), data=st.data()
)
def test_transitions_against_counting(scratch: Path, rows: list[list[int]], data: st.DataObject) -> None:
    cuts = [data.draw(st.integers(0, len(row))) for row in rows]
    users = [User(row, cut, len(row)) for row, cut in zip(rows, cuts, strict=True)]
    world = World(num_items=5, files=min(2, len(users)))
    sequences = ShardSource(open_shards(write_shards(scratch / "data", users, world)))
    expected = Counter(pair for row, cut in zip(rows, cuts, strict=True) for pair in pairwise(row[:cut]))
    counts = transition_counts(sequences).toarray()
    for last in range(FIRST + 5):
        for item in range(FIRST, FIRST + 5):
            assert counts[last, item - FIRST] == expected[last, item]


def test_markov_prefers_what_followed_then_what_is_popular(tmp_path: Path) -> None:
    # In the training parts 3 follows 2 twice and 4 follows it once; 6 is the most popular of all.
    rows = [[2, 3, 6, 5, 2], [2, 3, 6, 5, 2], [2, 4, 6, 5, 2], [6, 6, 6, 5, 2]]
    users = [*leave_one_out(*rows), User([3, 1, 5], 1, 2)]
    shards = open_shards(write_shards(tmp_path, users, World(num_items=6)))
    sequences = load(tmp_path)
    score = markov_scorer([sequences], shards.items()["train_count"].to_numpy().astype(float))
    target = sequences.offsets[:5] + np.array([1, 1, 1, 1, 2])
    asked = score(sequences, Targets(np.arange(5), target, target))
    scores = asked.columns(0, 6).numpy()
    assert np.array_equal(np.hstack([asked.columns(0, 4), asked.columns(4, 6)]), scores)
    # After 2: 3, then 4, then by popularity 6, 2, 5 and 7 (which tie, never trained on).
    assert np.argsort(-scores[0], kind="stable")[:4].tolist() == [1, 2, 4, 0]
    assert scores[0][3] == scores[0][5] == 0.0
    # After the unknown item, popularity alone: 6 above all.
    assert np.argsort(-scores[4], kind="stable")[0] == 4


def test_popularity_counts_the_training_part_only(tmp_path: Path) -> None:
    # 2 leads in training; counting everything, 3 would.
    rows = [[2, 2, 4, 3], [2, 4, 3, 3], [4, 2, 3, 3]]
    folder = write_shards(tmp_path, leave_one_out(*rows), World(num_items=3))
    metrics = evaluate_baseline("popularity", folder, "test")
    assert metrics["exclude_seen"] is False
    # The target 3 stands last of three each time: it is not trained on.
    assert metrics["mrr@10"] == pytest.approx(1 / 3)
    assert metrics["model"] == "popularity"


def test_markov_asks_what_follows_the_event_before_the_basket(tmp_path: Path) -> None:
    # 3 follows 2 in training. The last basket holds 5 and 3: after its first item nothing is known to follow.
    row = User([2, 3, 2, 3, 4, 2, 5, 3], 5, 6, timestamp=[1, 2, 3, 4, 5, 6, 7, 7])
    world = World(num_items=4, split={"kind": "next_basket"})
    shards = open_shards(write_shards(tmp_path, [row], world))
    popularity = np.zeros(4)
    data = ShardSource(shards)
    config = EvaluationConfig(cutoffs=[1], exclude_seen=False)
    metrics = evaluate_scorer(data, markov_scorer(data, popularity), split="test", config=config)
    assert (metrics["users"], metrics["targets"], metrics["hr@1"]) == (1, 2, 1 / 2)


def test_an_unknown_baseline_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        evaluate_baseline("popular", tmp_path)
    assert "popularity" in str(caught.value)


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
