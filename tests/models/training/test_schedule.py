"""The learning rates that the steps of a training really have."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from models.training import train
from tests.models.training.training_runs import (
    STEPS_A_EPOCH,
    Watcher,
    circle,
    same_weights,
    settings,
    weights,
)


def rates(folder: Path, *overrides: str) -> list[float]:
    watcher = Watcher()
    config = settings("train.log_every_steps=1", "optimizer.learning_rate=0.5", *overrides)
    train(config, circle(folder / "data"), folder / "run", observer=watcher)
    return [report.learning_rate for report in watcher.reports]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_a_training_of_one_step_learns(tmp_path: Path, schedule: str) -> None:
    overrides = (f"optimizer.schedule={schedule}", "train.epochs=1", "train.batch_sequences=64")
    assert rates(tmp_path, *overrides) == [0.5]
    config = settings(*overrides, "optimizer.learning_rate=1e-30")
    train(config, tmp_path / "data", tmp_path / "untrained")
    assert not same_weights(weights(tmp_path / "run"), weights(tmp_path / "untrained"))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_rates_of_an_epoch_of_uneven_steps(tmp_path: Path, accumulate: int) -> None:
    """31 sequences in steps of 8: the last step has 7, but what is done before it decides."""
    found = rates(tmp_path, "optimizer.schedule=cosine", "train.epochs=2", f"train.accumulate={accumulate}")
    done = [(epoch + step * 8 / 31) / 2 for epoch in range(2) for step in range(STEPS_A_EPOCH)]
    assert found == pytest.approx([0.25 * (1 + math.cos(math.pi * share)) for share in done])
    assert found[-1] > 0.0


def test_a_warm_up_longer_than_the_training_is_warned_of(tmp_path: Path) -> None:
    watcher = Watcher()
    config = settings("optimizer.warmup_steps=5", "train.epochs=1")
    train(config, circle(tmp_path / "data"), tmp_path / "run", observer=watcher)
    assert watcher.start is not None
    assert "warm-up of 5 steps is longer than the training of about 4" in str(watcher.start.warnings)
