"""What a training by two processes has to give, be it on CPUs through gloo or on GPUs through NCCL.

Checks take the shards of `tests.models.training.training_runs.circle`, a folder to work in, and the device;
some also a run of one process by `train_alone`.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

from behavior.errors import UserError
from models.evaluate_run import evaluate
from models.gpu.device import DeviceName
from models.runs.checkpoint import load_checkpoint
from models.training import launch, train
from models.training.observer import Silent, StepProgress
from tests.models.training.training_runs import records, settings, weights

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
SHARDED = (*TWO, "train.item_table=sharded")
BY_ROWS = ("optimizer.item_table=sparse_rowwise_adagrad", "optimizer.item_learning_rate=0.1")
ROWWISE = ("optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.1")
SAMPLED = (
    "loss.kind=sampled_softmax",
    "loss.negatives.source=mixed",
    "loss.negatives.sharing=position",
    "loss.negatives.count=3",
    "train.epochs=1",
)


@dataclass(frozen=True)
class Tolerance:
    """How far runs may be apart that differ in the order in which numbers are added up."""

    record: float
    """Of what is logged, relative."""
    relative: float
    """Of each weight."""
    absolute: float
    """Of each weight, where that is more."""


# On a GPU kernels cut their products by the shape of the batch, and float32 is multiplied as three TF32.
# AdamW moves a weight by up to its rate of 0.001, whatever the size of the gradient: where that is little
# more than rounding, two runs may go different ways in the first steps.
TOLERANCES = {"cpu": Tolerance(1e-4, 1e-4, 1e-5), "cuda": Tolerance(1e-3, 1e-3, 2e-3)}


def on(device: DeviceName) -> str:
    """The setting of a device."""
    return f"train.device={device}"


def train_alone(shards: Path, run: Path, device: DeviceName) -> None:
    """A run of one process, which others are compared with."""
    train(settings(*EXACT, on(device)), shards, run)


def check_alike(run: Path, other: Path, device: DeviceName) -> None:
    """Equal but for the order in which numbers are added up."""
    allowed = TOLERANCES[device]
    assert len(records(run)) == len(records(other))
    for mine, theirs in zip(records(run), records(other), strict=True):
        assert mine == {
            key: pytest.approx(value, rel=allowed.record) if isinstance(value, float) else value
            for key, value in theirs.items()
        }
    wanted = weights(other)
    for name, weight in weights(run).items():
        torch.testing.assert_close(
            weight, wanted[name], rtol=allowed.relative, atol=allowed.absolute, msg=f"{name} differs"
        )


def check_judged(run: Path, device: DeviceName) -> None:
    """The validation that was logged last is that of one process which reads the checkpoint."""
    logged = [line for line in records(run) if line["kind"] == "valid"][-1]
    judged = evaluate(run, "valid", checkpoint="last", device=device)
    for name in ("ndcg@10", "mrr@10", "targets"):
        assert judged[name] == logged[name], name


def check_losses(shards: Path, alone: Path, run: Path, device: DeviceName) -> None:
    """In two parts a step, besides."""
    config = settings(*EXACT, *TWO, on(device), "train.accumulate=2")
    result = train(config, shards, run)
    assert (result.epochs, result.step, result.stopped_by) == (2, 12, "epochs")
    check_alike(run, alone, device)
    check_judged(run, device)


def check_fewer_processes(shards: Path, alone: Path, run: Path, device: DeviceName) -> None:
    """A run of two processes goes on in one."""
    train(settings(*EXACT, *TWO, on(device), "train.epochs=1"), shards, run)
    random = load_checkpoint(run / "checkpoints" / "last.safetensors").random
    assert not torch.equal(random["cpu"], random["process-1.cpu"])
    train(settings(*EXACT, on(device)), shards, run, resume=True)
    check_alike(run, alone, device)


def check_begun_with_shards(shards: Path, alone: Path, run: Path, device: DeviceName) -> None:
    """A run with shards goes on in one process. In two parts a step; one process has nothing in the last."""
    begun = settings(*EXACT, *SHARDED, on(device), "train.accumulate=2", "train.epochs=1")
    train(begun, shards, run)
    check_judged(run, device)
    for name, weight in weights(run, "last").items():
        assert torch.equal(weight, weights(run, "best")[name])
    train(settings(*EXACT, on(device)), shards, run, resume=True)
    check_alike(run, alone, device)


def check_gone_on_with_shards(shards: Path, folder: Path, device: DeviceName) -> None:
    """A run of one process goes on with shards."""
    alone, run = folder / "alone", folder / "run"
    config = (*EXACT, *ROWWISE, on(device))
    train(settings(*config), shards, alone)
    train(settings(*config, "train.epochs=1"), shards, run)
    train(settings(*config, *SHARDED), shards, run, resume=True)
    check_alike(run, alone, device)


def check_drawn_negatives(shards: Path, folder: Path, device: DeviceName, *changes: str) -> None:
    """Two processes with shards draw and lose what two with whole tables do."""
    config = (*EXACT, *SAMPLED, on(device), *changes)
    train(settings(*config, *TWO), shards, folder / "whole")
    train(settings(*config, *SHARDED), shards, folder / "run")
    check_alike(folder / "run", folder / "whole", device)


def check_bfloat16(shards: Path, folder: Path, device: DeviceName) -> None:
    """Losses are those of one process as far as bfloat16 tells: other batches are rounded otherwise."""
    config = (*EXACT, on(device), "train.precision=bf16-mixed")
    train(settings(*config), shards, folder / "alone")
    wanted = [line["loss"] for line in records(folder / "alone") if "loss" in line]
    for name, several in (("whole", TWO), ("sharded", SHARDED)):
        train(settings(*config, *several), shards, folder / name)
        losses = [line["loss"] for line in records(folder / name) if "loss" in line]
        assert losses == pytest.approx(wanted, rel=0.05), name


def check_captured(shards: Path, alone: Path, folder: Path, device: DeviceName) -> None:
    """Steps that are captured have the losses of those that are not, over epochs of several sizes."""
    captured = (*EXACT, on(device), "train.cuda_graphs=true")
    for name, several in (("whole", TWO), ("sharded", SHARDED)):
        train(settings(*captured, *several), shards, folder / name)
        check_alike(folder / name, alone, device)
    rows = (*captured, *SAMPLED, *BY_ROWS, "train.epochs=4")
    for name, several in (("rows", TWO), ("rows sharded", SHARDED)):
        train(settings(*rows, *several), shards, folder / name)
    check_alike(folder / "rows sharded", folder / "rows", device)


def check_an_early_end(shards: Path, run: Path, device: DeviceName, *changes: str) -> None:
    """A process that is killed is an error in the first one."""
    started: list[subprocess.Popen[str]] = []
    start = launch._start

    def start_noted(told: str) -> subprocess.Popen[str]:
        started.append(start(told))
        return started[-1]

    class Killer(Silent):
        def stepped(self, progress: StepProgress) -> None:
            started[0].kill()

    with (
        mock.patch.object(launch, "_start", start_noted),
        pytest.raises(UserError, match="training process 1 ended with exit code -9"),
    ):
        train(settings(*EXACT, *TWO, on(device), *changes), shards, run, observer=Killer())
