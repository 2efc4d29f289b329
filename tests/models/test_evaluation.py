"""The ranking protocol and trained runs, against one user, one item at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.shards import open_shards
from models.batch import PackedBatch
from models.build import build_model
from models.catalog import ItemCatalog
from models.checkpoint import load_checkpoint
from models.config import load_config
from models.data import SequenceData, load_sequences
from models.evaluation import evaluate_run, model_scorer
from models.ranking import EvaluationConfig, evaluate_scorer, find_targets
from models.training import train
from tests.models.shards import User, World, write_shards

FIRST, ITEMS = 2, 6
WORLD = World(num_items=ITEMS, behaviors=("view", "buy"), targets=("buy",))


def expected_target(user: User, split: str) -> int | None:
    """Index of the first bought item of the split's part."""
    cut, end = (user.train_end, user.valid_end) if split == "valid" else (user.valid_end, len(user.item))
    return next((i for i in range(cut, end) if user.behavior[i] == 2), None)


def slow_metrics(users: list[User], split: str, score: Any, exclude_seen: bool) -> dict[str, Any]:
    """`score(user number, target index, item)`; one candidate at a time."""
    ranks, without_history, oov, excluded = [], 0, 0, 0
    for number, user in enumerate(users):
        index = expected_target(user, split)
        if index is None:
            continue
        if index == 0:
            without_history += 1
            continue
        target = user.item[index]
        seen = {user.item[i] for i in range(index) if user.behavior[i] == 2} if exclude_seen else set()
        if target < FIRST:
            oov += 1
            ranks.append(math.inf)
        elif target in seen:
            excluded += 1
            ranks.append(math.inf)
        else:
            rivals = [i for i in range(FIRST, FIRST + ITEMS) if i not in seen and i != target]
            ranks.append(1 + sum(score(number, index, i) >= score(number, index, target) for i in rivals))
    count = max(len(ranks), 1)
    return {
        "hr@3": sum(rank <= 3 for rank in ranks) / count,
        "ndcg@3": sum(1 / math.log2(1 + rank) for rank in ranks if rank <= 3) / count,
        "mrr@3": sum(1 / rank for rank in ranks if rank <= 3) / count,
        "users": len(ranks),
        "users_without_history": without_history,
        "oov_targets": oov,
        "excluded_targets": excluded,
    }


@st.composite
def user(draw: st.DrawFn) -> User:
    length = draw(st.integers(1, 8))
    valid_end = draw(st.integers(0, length))
    return User(
        item=draw(st.lists(st.integers(1, FIRST + ITEMS - 1), min_size=length, max_size=length)),
        train_end=draw(st.integers(0, valid_end)),
        valid_end=valid_end,
        behavior=draw(st.lists(st.integers(1, 2), min_size=length, max_size=length)),
    )


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@settings(max_examples=50, deadline=None)
@given(
    users=st.lists(user(), min_size=1, max_size=8),
    split=st.sampled_from(["valid", "test"]),
    exclude_seen=st.booleans(),
    batch_size=st.integers(1, 4),
)
def test_protocol_against_one_candidate_at_a_time(
    scratch: Path, users: list[User], split: Any, exclude_seen: bool, batch_size: int
) -> None:
    """Unknown items, repeats, ties, several behaviors, users without target or history: all counted alike."""
    data = load_sequences(open_shards(write_shards(scratch / "data", users, WORLD)))

    def score(number: int, index: int, item: int) -> float:
        return float((7 * number + 3 * index + 5 * item) % 4)  # few values: many ties

    def scorer(sequence: np.ndarray, target: np.ndarray) -> torch.Tensor:
        rows = [
            [score(number, event - data.offsets[number], item) for item in range(FIRST, FIRST + ITEMS)]
            for number, event in zip(sequence, target, strict=True)
        ]
        return torch.tensor(rows).reshape(-1, ITEMS)

    config = EvaluationConfig(cutoffs=[3], exclude_seen=exclude_seen, batch_size=batch_size)
    metrics = evaluate_scorer(data, scorer, split=split, config=config)
    expected = slow_metrics(users, split, score, exclude_seen)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert (metrics["split"], metrics["exclude_seen"], metrics["candidates"]) == (split, exclude_seen, ITEMS)


@pytest.mark.parametrize(("repeats", "excluded"), [(False, True), (True, False)])
def test_seen_items_are_left_out_by_default_only_where_nobody_repeats(
    tmp_path: Path, repeats: bool, excluded: bool
) -> None:
    items = [3, 3, 4, 5] if repeats else [2, 3, 4, 5]
    users = [User(items, 2, 3, behavior=[2, 2, 2, 2])]
    data = load_sequences(open_shards(write_shards(tmp_path, users, WORLD)))
    metrics = evaluate_scorer(
        data, lambda s, t: torch.zeros(len(s), ITEMS), split="test", config=EvaluationConfig()
    )
    assert metrics["exclude_seen"] is excluded


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    data = load_sequences(open_shards(write_shards(tmp_path, [User([2, 3], 1, 1)], World(num_items=2))))
    with pytest.raises(UserError, match="no split 'train'"):
        find_targets(data, "train")  # type: ignore[arg-type]


def history_users() -> list[User]:
    """Histories longer than the model's window, in which early items come back as targets."""
    generator = np.random.default_rng(0)
    users = []
    for _ in range(12):
        length = int(generator.integers(5, 14))
        users.append(
            User(
                item=generator.integers(1, FIRST + ITEMS, length).tolist(),
                train_end=length - 2,
                valid_end=length - 1,
                behavior=[*generator.integers(1, 3, length - 2).tolist(), 2, 2],
                timestamp=np.sort(generator.integers(0, 10**6, length)).tolist(),
            )
        )
    return users


SETTINGS = [
    "model.dim=8",
    "model.blocks=1",
    "model.max_length=4",
    "embedding.behaviors=add",
    "train.epochs=2",
    "train.batch_size=5",
    "train.device=cpu",
    "evaluation.cutoffs=[3]",
    "train.select_by=ndcg@3",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), history_users(), WORLD)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_a_run_against_one_user_at_a_time(shards: Path, tmp_path: Path, kind: str, time: str) -> None:
    """The history is cut to the newest N; seen items are those of all of it; a known time is the target's."""
    config = load_config("default", [*SETTINGS, f"model.kind={kind}", f"model.time={time}"])
    train(config, shards, tmp_path / "run")
    folder = open_shards(shards)
    model = build_model(config, ItemCatalog.from_shards(folder), num_behaviors=2, has_time=True).eval()
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    model.load_state_dict(best.model)
    users = history_users()

    def score(number: int, index: int, item: int) -> float:
        user, window = users[number], slice(max(0, index - 4), index)
        times = list(user.timestamp[window])
        known = [*times[1:], user.timestamp[index]]
        batch = PackedBatch.from_lists(
            [user.item[window]],
            behaviors=[user.behavior[window]],
            timestamps=[times],
            query_times=[known if time == "known" else times],
        )
        with torch.no_grad():
            query = model.backbone(model.embedding(batch), batch)[-1].double()
            vector = model.embedding.item.weight[item].double()
        return round(float(query @ vector / query.norm() / vector.norm()), 6)

    for split in ("valid", "test"):
        for exclude_seen in (True, False):
            found = evaluate_run(tmp_path / "run", split, exclude_seen=exclude_seen, device="cpu")
            expected = slow_metrics(users, split, score, exclude_seen)
            assert {name: found[name] for name in expected} == pytest.approx(expected)
            assert found["time"] == time
    assert evaluate_run(tmp_path / "run", "valid", device="cpu")["ndcg@3"] == pytest.approx(
        best.progress["metrics"]["ndcg@3"]
    )


def test_scoring_leaves_the_model_as_it_was(shards: Path) -> None:
    config = load_config("default", SETTINGS)
    folder = open_shards(shards)
    data: SequenceData = load_sequences(folder)
    model = build_model(config, ItemCatalog.from_shards(folder), num_behaviors=2, has_time=True)
    targets = find_targets(data, "test")
    state = torch.get_rng_state()
    scorer = model_scorer(model.train(), data, config.model)
    first, second = (scorer(targets.sequence, targets.event) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_is_judged_on_its_own_data_only(shards: Path, tmp_path: Path) -> None:
    config = load_config("default", [*SETTINGS, "train.epochs=1"])
    train(config, shards, tmp_path / "run")
    moved = write_shards(tmp_path / "moved", history_users(), WORLD)
    assert evaluate_run(tmp_path / "run", data=moved, device="cpu") == evaluate_run(
        tmp_path / "run", device="cpu"
    )
    other = write_shards(tmp_path / "other", history_users()[:-1], WORLD)
    with pytest.raises(UserError, match="trained on another data set: digest"):
        evaluate_run(tmp_path / "run", data=other, device="cpu")


def test_what_is_no_run_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a training run"):
        evaluate_run(tmp_path)
