"""Trainings whose validation split has no targets, or few."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from behavior.errors import UserError
from models.evaluate_run import evaluate
from models.evaluation.baselines import evaluate_baseline
from models.experiments.runs import PlannedRun, run_one
from models.tasks.registry import Metric
from models.training import train
from models.training.loop import number_of
from models.training.observer import FEW_USERS
from tests.models.shards import User, World, write_shards
from tests.models.training.training_runs import (
    ITEMS,
    Watcher,
    circle,
    records,
    same_weights,
    settings,
    weights,
)


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """Everyone's validation part is empty, and the last event is the test."""
    users = [User([2 + (start + step) % ITEMS for step in range(8)], 7, 7) for start in range(31)]
    return write_shards(tmp_path / "data", users, World(num_items=ITEMS))


def test_the_best_checkpoint_is_the_last_where_nobody_validates(nobody: Path, tmp_path: Path) -> None:
    run, watcher = tmp_path / "run", Watcher()
    result = train(settings("train.patience=1"), nobody, run, observer=watcher)
    assert (result.stopped_by, result.epochs, result.best_epoch) == ("epochs", 3, 3)
    assert same_weights(weights(run, "best"), weights(run, "last"))
    for line in [*(line for line in records(run) if line["kind"] == "valid"), result.best_metrics]:
        assert line["users"] == 0
        assert not [name for name in line if "@" in name]
    assert not any(validation.is_best for validation in watcher.validations)
    assert watcher.start is not None
    assert watcher.start.validated == 0
    assert "nobody is validated" in str(watcher.start.warnings)
    assert evaluate(run, device="cpu")["epoch"] == 3
    assert evaluate(run, device="cpu") | {"checkpoint": "last"} == evaluate(
        run, device="cpu", checkpoint="last"
    )


def test_resuming_where_nobody_validates(nobody: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=1"), nobody, run)
    train(settings(), nobody, run, resume=True)
    assert same_weights(weights(run, "best"), weights(run, "last"))


def test_nobody_is_evaluated(nobody: Path, tmp_path: Path) -> None:
    train(settings("train.epochs=1"), nobody, tmp_path / "run")
    with pytest.raises(UserError, match="nobody is evaluated on the valid split: it has no targets"):
        evaluate(tmp_path / "run", "valid", device="cpu")
    with pytest.raises(UserError, match="nobody is evaluated"):
        evaluate_baseline("popularity", nobody, "valid")
    without_history = write_shards(tmp_path / "first", [User([2], 0, 0)], World(num_items=ITEMS))
    with pytest.raises(UserError, match="its only target has no history"):
        evaluate_baseline("popularity", without_history, "test")


def test_runs_are_compared_on_test_alone_where_nobody_validates(nobody: Path, tmp_path: Path) -> None:
    def planned(name: str) -> PlannedRun:
        config = settings("train.epochs=1")
        return PlannedRun("table", "line", 0, "default", {}, config, "data", "digest", tmp_path / name)

    record = run_one(planned("a"), str(nobody), "test")
    assert record.valid == {"oov_targets": 0, "excluded_targets": 0}
    assert record.test["hr@10"] == 1.0
    with pytest.raises(UserError, match="nobody is validated"):
        run_one(planned("b"), str(nobody), "valid")


def test_few_users_are_said(tmp_path: Path) -> None:
    watcher = Watcher()
    train(settings("train.epochs=1"), circle(tmp_path / "data"), tmp_path / "run", observer=watcher)
    assert watcher.start is not None
    assert (watcher.start.validated, FEW_USERS) == (31, 100)
    assert "only 31 users are validated" in str(watcher.start.warnings)


def test_what_is_no_number_is_never_the_best() -> None:
    metric = Metric("loss", higher_is_better=False)
    assert number_of({"loss": 0.0}, metric) == 0.0
    assert number_of({"loss": math.nan}, metric) is None
    assert number_of({"loss": None}, metric) is None
    assert number_of({}, metric) is None
