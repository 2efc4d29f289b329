"""Evaluations of trained runs, against one user, one item at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.config import load_config
from models.data.batch import PackedBatch
from models.data.catalog import ItemCatalog
from models.evaluate_run import evaluate, judge_run
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import evaluate_scorer
from models.evaluation.targets import find_targets
from models.serving.load import load_model
from models.tasks.retrieval import build_model, model_scorer
from models.training import train
from tests.models.evaluation.evaluation_oracle import (
    BUYS,
    FIRST,
    ITEMS,
    SPLITS,
    WORLD,
    basket_users,
    history_users,
)
from tests.models.evaluation.run_oracle import SETTINGS, check_run
from tests.models.shards import User, World, load, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), history_users(), WORLD)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
@pytest.mark.parametrize("time", ["known", "unknown"])
def test_a_run_against_one_user_at_a_time(shards: Path, tmp_path: Path, kind: str, time: str) -> None:
    """The history is cut to the newest N; seen items are those of all of it; a known time is the target's."""
    config = load_config("default", [*SETTINGS, f"model.kind={kind}", f"model.time={time}"])
    check_run(config, shards, tmp_path / "run", history_users(), "first", BUYS)


@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("protocol", ["all", "basket"])
def test_a_run_with_several_targets_a_user(tmp_path: Path, protocol: str, time: str) -> None:
    """Each is asked for by its own behavior and time; in a basket, after the last event before it."""
    world = World(
        num_items=ITEMS, behaviors=("view", "buy", "gift"), targets=("buy", "gift"), split=SPLITS[protocol]
    )
    users = basket_users()
    shards = write_shards(tmp_path / "data", users, world)
    config = load_config("default", [*SETTINGS, f"model.time={time}", "embedding.query_behavior=add"])
    check_run(config, shards, tmp_path / "run", users, protocol, (2, 3))


def test_scoring_leaves_the_model_as_it_was(shards: Path) -> None:
    config = load_config("default", SETTINGS)
    folder = open_shards(shards)
    data = load(shards)
    model = build_model(config, ItemCatalog.from_shards(folder), num_behaviors=2, has_time=True)
    targets = find_targets(data, "test")
    state = torch.get_rng_state()
    scorer = model_scorer(model.train(), config.model)
    first, second = (scorer(data, targets).columns(0, ITEMS) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_item_vectors_are_made_once_an_evaluation(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("default", SETTINGS)
    catalog = ItemCatalog.from_shards(open_shards(shards))
    model = build_model(config, catalog, num_behaviors=2, has_time=True)
    made = []
    monkeypatch.setattr(model, "item_vectors", lambda make=model.item_vectors: made.append(make()) or made[0])
    settings = EvaluationConfig(batch_size=1)
    scorer = model_scorer(model, config.model)
    metrics = evaluate_scorer([load(shards)], scorer, split="test", config=settings)
    assert metrics["targets"] > len(made) == 1


def test_settings_of_the_run_can_be_replaced_and_what_cannot_be_done_is_told(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(load_config("default", [*SETTINGS, "train.epochs=1"]), shards, tmp_path / "run")
    found = judge_run(tmp_path / "run", device="cpu", cutoffs=[2], by=["behavior"], exclude_seen=None)
    assert {"hr@2", "breakdown"} <= set(report := found.report())
    assert "hr@3" not in report
    assert found.config.batch_size == EvaluationConfig().batch_size
    with pytest.raises(UserError, match="bootstrap"):
        judge_run(tmp_path / "run", device="cpu", bootstrap=-1)
    with pytest.raises(UserError, match="cannot be broken down by 'color'"):
        judge_run(tmp_path / "run", device="cpu", by=["color"])

    def too_large(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("models.tasks.retrieval.evaluator.rank_split", too_large)
    with pytest.raises(UserError, match="parameters and the scores do not fit on the GPU"):
        judge_run(tmp_path / "run", device="cpu")


def test_a_run_is_judged_on_its_own_data_only(shards: Path, tmp_path: Path) -> None:
    config = load_config("default", [*SETTINGS, "train.epochs=1"])
    train(config, shards, tmp_path / "run")
    moved = write_shards(tmp_path / "moved", history_users(), WORLD)
    assert evaluate(tmp_path / "run", data=moved, device="cpu") == evaluate(tmp_path / "run", device="cpu")
    other = write_shards(tmp_path / "other", history_users()[:-1], WORLD)
    with pytest.raises(UserError, match="trained on another data set: digest"):
        evaluate(tmp_path / "run", data=other, device="cpu")


def test_what_is_no_run_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a training run"):
        evaluate(tmp_path)


def test_the_log_loss_is_that_of_a_softmax_over_all_known_items(tmp_path: Path) -> None:
    """Target by target, from the model's queries and item vectors, at the temperature of the loss."""
    users = [
        User([2, 3, 4, 5, 2], 3, 4),
        User([4, 5, 6, 1, 7], 3, 4),  # the validation target is no known item
        User([7, 6, 2, 3], 2, 3),
        User([5, 4, 3, 2, 7, 6], 4, 5),
    ]
    data = write_shards(tmp_path / "data", users, World(num_items=ITEMS))
    named = ["model.dim=8", "train.epochs=1", "train.device=cpu", "evaluation.log_loss=true"]
    config = load_config("default", [*named, "evaluation.batch_size=2", "loss.temperature=0.3"])
    train(config, data, tmp_path / "run")
    found = evaluate(tmp_path / "run", "valid", device="cpu")
    model = load_model(tmp_path / "run", device="cpu").module
    vectors, losses = model.item_vectors().detach().double(), []
    for user in users:
        target = user.item[user.train_end] - FIRST
        if target < 0:
            continue
        times = list(range(0, 60 * len(user.item), 60))
        cut = user.train_end
        batch = PackedBatch.from_lists(
            [user.item[:cut]], timestamps=[times[:cut]], query_times=[times[1 : cut + 1]]
        )
        with torch.no_grad():
            logits = vectors @ model.eval()(batch)[-1].double() / 0.3
        losses.append(math.log(sum(math.exp(x) for x in logits.tolist())) - logits[target].item())
    assert found["log_loss_targets"] == len(losses) == 3
    assert found["log_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
