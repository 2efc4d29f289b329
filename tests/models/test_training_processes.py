"""Several processes train one model, to the same losses as one process alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from behavior.errors import UserError
from models.build import make_loader
from models.checkpoint import load_checkpoint
from models.data import SequenceData
from models.loading import MemorySource
from models.observer import Silent, StepProgress
from models.training import launch, train
from models.training.failed_step import load_failed_step
from models.training.launch import count_devices
from models.training.processes import Processes
from tests.models.shards import load
from tests.models.training_runs import circle, records, settings, weights

# 31 sequences in steps of 6: the last step of an epoch has one, and one of two processes has nothing to do.
EXACT = (
    "loss.kind=full_softmax",
    "model.dropout=0",
    "train.epochs=2",
    "train.batch_sequences=6",
    "train.log_every_steps=1",
    "optimizer.clip_norm=1",
)
TWO = ("train.devices=2",)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    train(settings(*EXACT), shards, run)
    return run


def check_alike(run: Path, other: Path) -> None:
    """Equal but for the order in which numbers are added up."""
    assert len(records(run)) == len(records(other))
    for mine, theirs in zip(records(run), records(other), strict=True):
        assert mine == {
            key: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            for key, value in theirs.items()
        }
    theirs = weights(other)
    for name, weight in weights(run).items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_two_processes_give_the_losses_of_one(shards: Path, alone: Path, tmp_path: Path) -> None:
    """In two parts a step, besides."""
    result = train(settings(*EXACT, *TWO, "train.accumulate=2"), shards, tmp_path / "run")
    assert (result.epochs, result.step, result.stopped_by) == (2, 12, "epochs")
    check_alike(tmp_path / "run", alone)


@pytest.mark.usefixtures("warm_workers")
def test_a_run_goes_on_with_fewer_processes(shards: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings(*EXACT, *TWO, "train.epochs=1"), shards, run)
    random = load_checkpoint(run / "checkpoints" / "last.safetensors").random
    assert not torch.equal(random["cpu"], random["process-1.cpu"])
    train(settings(*EXACT), shards, run, resume=True)
    check_alike(run, alone)


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
    check_alike(run, alone)


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


def test_a_process_that_ends_early_is_an_error(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []
    start = launch._start

    def start_noted(told: str) -> subprocess.Popen[str]:
        started.append(start(told))
        return started[-1]

    class Killer(Silent):
        def stepped(self, progress: StepProgress) -> None:
            started[0].kill()

    monkeypatch.setattr(launch, "_start", start_noted)
    with pytest.raises(UserError, match="training process 1 ended with exit code -9"):
        train(settings(*EXACT, *TWO), shards, tmp_path / "run", observer=Killer())


def test_the_devices_of_this_machine_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_devices(settings("train.devices=auto").train) == 1  # of CPUs there is one
    assert count_devices(settings("train.devices=3").train) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert count_devices(settings("train.device=cuda", "train.devices=auto").train) == 4
    with pytest.raises(UserError, match="8 GPUs are asked for and there are 4"):
        count_devices(settings("train.device=cuda", "train.devices=8").train)


def test_one_process_talks_to_itself() -> None:
    processes = Processes()
    assert processes.total([1.0, 2.0]) == [1.0, 2.0]
    assert processes.gather("a") == ["a"]
    assert processes.from_first(3) == 3

    def fail() -> Any:
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        processes.on_first(fail)
