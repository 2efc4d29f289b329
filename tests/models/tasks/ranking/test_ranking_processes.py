"""Ranking on two processes, and in bfloat16: the losses and metrics of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.training import train
from tests.models.tasks.ranking.world import events_of, settings, write
from tests.models.training.training_runs import records

# The last step of an epoch may leave a process without anything to do.
EXACT = (
    "train.log_every_steps=1",
    "optimizer.clip_norm=1",
    "train.batch_sequences=5",
    "task.label=[value>=4, buy]",
)


@pytest.mark.usefixtures("warm_workers")
def test_two_processes_give_the_losses_and_metrics_of_one(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", events_of(26, seed=6)).where()
    train(settings(*EXACT), shards, tmp_path / "one")
    train(settings(*EXACT, "train.devices=2"), shards, tmp_path / "two")
    one, two = records(tmp_path / "one"), records(tmp_path / "two")
    assert len(one) == len(two)
    for alone, together in zip(one, two, strict=True):
        for name in (
            "step",
            "loss",
            "gradient_norm",
            "auc",
            "gauc",
            "log_loss",
            "expected_calibration_error",
        ):
            assert together.get(name, 0.0) == pytest.approx(alone.get(name, 0.0), rel=1e-4), name


def test_in_bfloat16_losses_are_nearly_the_same(tmp_path: Path) -> None:
    shards = write(tmp_path / "data", events_of(26, seed=6)).where()
    more = ("task.head=mmoe", "embedding.event_features=[device, price]", "task.actions=joined")
    train(settings(*EXACT, *more), shards, tmp_path / "exact")
    train(settings(*EXACT, *more, "train.precision=bf16-mixed"), shards, tmp_path / "mixed")
    for exact, mixed in zip(records(tmp_path / "exact"), records(tmp_path / "mixed"), strict=True):
        assert mixed.get("loss", 0.0) == pytest.approx(exact.get("loss", 0.0), abs=0.02)
