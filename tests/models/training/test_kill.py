"""A training that is killed, and taken up again, ends as if nothing had happened."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.config import load_config
from models.training import train
from tests.models.training.training_runs import circle
from tests.models.warm import start

SETTINGS = (
    "model.dim=8",
    "model.max_length=20",
    "train.epochs=8",
    "train.batch_sequences=4",
    "train.log_every_steps=1",
    "train.checkpoint_every_steps=5",
    "train.device=cpu",
)


def run(shards: Path, out: Path) -> None:
    """Begin a training, or go on with it."""
    train(load_config("default", SETTINGS), shards, out, resume="auto")


def finish(shards: Path, out: Path) -> None:
    process = start(run, shards, out)
    process.join()
    assert process.exitcode == 0


def losses(run: Path) -> list[dict]:
    """The curve, without what depends on the clock."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("minutes", "minutes_left", "tokens_per_second", "flops_per_second", "waiting")
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


def logged(run: Path) -> int:
    """Records so far; the last one may be half written."""
    path = run / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.slow
def test_killed_at_random_it_resumes_to_the_same_curve_and_weights(tmp_path: Path) -> None:
    shards = circle(tmp_path / "shards")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(shards, whole)
    rng = random.Random(0)
    killed = 0
    for _ in range(2):
        # Killed a few records further than it was: importing and compiling take no part in the lottery.
        wanted = logged(broken) + rng.randrange(1, 12)
        process = start(run, shards, broken)
        while process.is_alive() and logged(broken) < wanted:
            time.sleep(0.01)
        process.kill()
        process.join()
        killed += process.exitcode != 0
    assert killed
    finish(shards, broken)
    assert losses(broken) == losses(whole)
    for name in ("last", "best"):
        weights = [load_file(run / "checkpoints" / f"{name}.safetensors") for run in (whole, broken)]
        assert weights[0].keys() == weights[1].keys()
        for key, tensor in weights[0].items():
            assert tensor.equal(weights[1][key]), key
