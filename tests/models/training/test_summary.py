"""What a run says of itself at its end: sizes, what it saw, spent and reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from behavior.shards.folder import open_shards
from models.build import build_task
from models.gpu.energy import EnergyMeter
from models.runs.metrics_log import read_metrics
from models.tasks.sizes import parameters_of
from models.training import train
from tests.models.shards import load
from tests.models.training.training_runs import ITEMS, Killed, Watcher, circle, settings


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def test_a_run_that_was_killed_has_spent_what_one_in_one_go_has(shards: Path, tmp_path: Path) -> None:
    """And that is what its lengths say: 31 sequences of 6 to 8 training events, the last of them a target."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(settings(), shards, whole)
    with pytest.raises(Killed):
        train(settings(), shards, broken, observer=Watcher(at_report=3))
    train(settings(), shards, broken, resume=True)
    found, other = (json.loads((run / "summary.json").read_text()) for run in (whole, broken))
    clock = ("seconds", "gpu_seconds", "train_loss")
    assert {k: v for k, v in found.items() if k not in clock} == {
        k: v for k, v in other.items() if k not in clock
    }
    inputs = [int(end) - 1 for end in load(shards).train_end if end > 1]
    epochs, flops = 3, build_task(settings(), open_shards(shards)).flops()
    assert (found["tokens"], found["sequences"]) == (epochs * sum(inputs), 31)
    assert found["unique_events"] == sum(inputs) + 31
    pairs = sum(n * (n + 1) // 2 for n in inputs)
    expected = flops.token * sum(inputs) + flops.pair * pairs + flops.position * sum(inputs)
    assert found["flops"] == pytest.approx(epochs * expected, rel=1e-12)
    assert (found["steps"], found["epochs"], found["backbone"]) == (12, 3, "hstu")
    assert found["gpu_joules"] is None
    points = [line for line in read_metrics(whole / "metrics.jsonl") if line["kind"] == "valid"]
    assert [point["tokens"] for point in points] == [sum(inputs) * (1 + epoch) for epoch in range(3)]
    assert points[-1]["flops"] == found["flops"]


def test_what_stands_there_stays_where_nothing_is_left_to_do(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=1"), shards, run)
    before = (run / "summary.json").read_bytes()
    train(settings("train.epochs=1"), shards, run, resume=True)
    assert (run / "summary.json").read_bytes() == before


def test_only_what_the_window_shows_is_unique(shards: Path, tmp_path: Path) -> None:
    train(settings("train.epochs=1", "model.max_length=3"), shards, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["unique_events"] == 31 * 4


def test_parameters_apart_by_hand(shards: Path) -> None:
    """Items and positions are tables; HSTU's block has 8 x 32 and 8 x 8, its last norm none, and biases."""
    model = build_task(settings("model.bias=none"), open_shards(shards)).model
    found = parameters_of(model)
    position = sum(p.numel() for name, p in model.named_parameters() if "position" in name)
    assert found.embedding == (ITEMS + 2) * 8 + position
    vectors = sum(p.numel() for p in model.backbone.parameters() if p.ndim == 1)
    assert found.backbone == 8 * 32 + 8 * 8 + vectors
    assert found.other == 0
    assert found.total == sum(p.numel() for p in model.parameters())


def test_there_is_no_energy_without_a_driver() -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None
