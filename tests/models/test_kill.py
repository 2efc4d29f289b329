"""A training that is killed, and taken up again, ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from behavior.spec import load_spec
from behavior.synthetic import SyntheticConfig, generate

SETTINGS = (
    "model.dim=8",
    "model.max_length=20",
    "train.epochs=4",
    "train.batch_sequences=16",
    "train.log_every_steps=1",
    "train.checkpoint_every_steps=5",
)


def command(shards: Path, out: Path) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [
        sys.executable,
        "-m",
        "cli.main",
        "train",
        "--data",
        str(shards),
        "--out",
        str(out),
        *settings,
        "--resume",
    ]


def losses(run: Path) -> list[dict]:
    """The curve, without what depends on the clock."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("minutes", "minutes_left", "tokens_per_second", "flops_per_second", "waiting")
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


@pytest.mark.slow
def test_killed_at_random_it_resumes_to_the_same_curve_and_weights(tmp_path: Path) -> None:
    from pipelines.prepare import prepare

    log = generate(SyntheticConfig(users=200, items=80, interests=10, personas=4, mean_events=15))
    spec, base = load_spec(log.write(tmp_path / "raw"))
    shards = tmp_path / "shards"
    prepare(spec, base, shards)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(shards, whole), check=True, capture_output=True)
    rng = random.Random(0)
    for _ in range(2):
        before = len(losses(broken)) if (broken / "metrics.jsonl").exists() else 0
        process = subprocess.Popen(
            command(shards, broken), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        # Killed a few records further than it was: importing and compiling take no part in the lottery.
        wanted = before + rng.randrange(1, 12)
        while process.poll() is None:
            lines = (
                (broken / "metrics.jsonl").read_text().count("\n")
                if (broken / "metrics.jsonl").exists()
                else 0
            )
            if lines >= wanted:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        process.communicate()
    subprocess.run(command(shards, broken), check=True, capture_output=True)
    assert losses(broken) == losses(whole)
    for name in ("last", "best"):
        weights = [load_file(run / "checkpoints" / f"{name}.safetensors") for run in (whole, broken)]
        assert weights[0].keys() == weights[1].keys()
        for key, tensor in weights[0].items():
            assert tensor.equal(weights[1][key]), key
