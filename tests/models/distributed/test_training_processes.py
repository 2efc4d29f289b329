"""Several processes train one model, to the same losses as one process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from behavior.errors import UserError
from models.build import make_loader
from models.data.loading import MemorySource
from models.data.sequences import SequenceData
from models.training import launch, train
from models.training.failed_step import load_failed_step
from models.training.launch import count_devices
from tests.models.distributed.several_processes import (
    EXACT,
    TWO,
    check_alike,
    check_an_early_end,
    check_bfloat16,
    check_fewer_processes,
    check_losses,
    train_alone,
)
from tests.models.shards import load
from tests.models.training.training_runs import circle, settings


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train_alone(shards, run, "cpu")
    return run


def test_two_processes_give_the_losses_of_one(shards: Path, alone: Path, tmp_path: Path) -> None:
    check_losses(shards, alone, tmp_path / "run", "cpu")


@pytest.mark.usefixtures("warm_workers")
def test_a_run_goes_on_with_fewer_processes(shards: Path, alone: Path, tmp_path: Path) -> None:
    check_fewer_processes(shards, alone, tmp_path / "run", "cpu")


@pytest.mark.usefixtures("warm_workers")
def test_in_bfloat16_two_processes_give_the_losses_of_one(shards: Path, tmp_path: Path) -> None:
    check_bfloat16(shards, tmp_path, "cpu")


@pytest.mark.usefixtures("warm_workers")
def test_a_step_that_goes_wrong_stops_all_and_each_saves_its_part(shards: Path, tmp_path: Path) -> None:
    config = settings(*EXACT, *TWO, "optimizer.learning_rate=1e38", "optimizer.clip_norm=null")
    run = tmp_path / "run"
    with pytest.raises(UserError, match="the loss became nan at step 2"):
        train(config, shards, run)
    parts = [load_failed_step(path)[0][0] for path in sorted((run / "failed").iterdir())]
    assert [path.name for path in sorted((run / "failed").iterdir())] == [
        "step-2-process-1.safetensors",
        "step-2.safetensors",
    ]
    data: SequenceData = load(shards)
    loader = make_loader(config, MemorySource([data]), ("view",))
    second = list(loader)[1]
    loader.close()
    seen = sorted(torch.cat([part.sequence for part in parts]).tolist())
    assert seen == sorted(second.sequence.tolist())


@pytest.mark.slow
def test_started_by_torchrun_a_run_goes_on_with_more_processes(
    shards: Path, alone: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(settings(*EXACT, "train.epochs=1"), shards, run)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "cli.main", "train", "--data", str(shards), "--out", str(run)]
    command += ["--resume", "--epochs", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"stopped_by": "epochs"') == 1
    check_alike(run, alone, "cpu")


def test_a_wrong_folder_is_an_error_before_anything_starts(
    shards: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(told: str) -> subprocess.Popen[str]:
        raise AssertionError("started")

    monkeypatch.setattr(launch, "_start", start)
    with pytest.raises(UserError, match="already holds a training run"):
        train(settings(*EXACT, *TWO), shards, alone)
    with pytest.raises(UserError, match="nowhere"):
        train(settings(*EXACT, *TWO), tmp_path / "nowhere", tmp_path / "run")


def test_a_process_that_does_not_start_is_an_error(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="training process 1 ended with exit code 1"):
        train(settings(*EXACT, *TWO), shards, tmp_path / "run")


def test_a_process_that_ends_early_is_an_error(shards: Path, tmp_path: Path) -> None:
    check_an_early_end(shards, tmp_path / "run", "cpu")


def test_a_process_ends_with_the_first_one_even_while_it_waits(shards: Path, tmp_path: Path) -> None:
    """It would wait for a day until the first one, which has started it, joins it."""
    store = TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    config = settings(*EXACT, *TWO).model_dump(mode="json")
    told = {"config": config, "data": str(shards), "out": str(tmp_path / "run"), "resume": False}
    told |= {"count": 2, "backend": "gloo", "port": store.port, "rank": 1}
    process = launch._start(json.dumps(told))
    assert process.stdin is not None
    while store.add(launch._ARRIVED, 0) < 1:
        assert process.poll() is None
        time.sleep(0.02)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=60) == 1


def test_the_devices_of_this_machine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_devices(settings("train.devices=auto").train) == 1  # of CPUs there is one
    assert count_devices(settings("train.devices=3").train) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert count_devices(settings("train.device=cuda", "train.devices=auto").train) == 4
    with pytest.raises(UserError, match="8 GPUs requested, 4 available"):
        count_devices(settings("train.device=cuda", "train.devices=8").train)
