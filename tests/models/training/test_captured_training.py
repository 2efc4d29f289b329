"""Trainings whose steps are captured: on the GPU as they are, on the CPU without the capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from behavior.errors import UserError
from models.attention import dispatch
from models.runs.checkpoint import load_checkpoint
from models.training import setup, static_input, train
from models.training.cuda_graph import CudaGraphs, Work
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.training.training_runs import (
    Killed,
    Watcher,
    circle,
    records,
    same_weights,
    settings,
    weights,
)

EXACT = ("model.dropout=0", "loss.kind=full_softmax", "optimizer.clip_norm=1", "optimizer.warmup_steps=5")
CAPTURED = "train.cuda_graphs=true"
IN_BATCH = ("loss.kind=sampled_softmax", "loss.negatives.source=in_batch")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sizes for small batches."""
    monkeypatch.setattr(static_input, "_SMALLEST", 4)


@pytest.fixture
def without_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(setup, "captures_steps", lambda config, *_: config.train.cuda_graphs is True)
    monkeypatch.setattr(setup, "CudaGraphs", lambda *_: lambda work: work)


def assert_alike(run: Path, other: Path, tolerance: float) -> None:
    for mine, theirs in zip(records(run), records(other), strict=True):
        assert mine["step"] == theirs["step"]
        for name in ("loss", "gradient_norm", "learning_rate"):
            assert mine.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=tolerance)


def test_without_a_gpu_it_is_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.cuda_graphs needs a CUDA device"):
        train(settings(CAPTURED), shards, tmp_path / "run")


@pytest.mark.usefixtures("without_capture")
def test_a_training_of_fixed_sizes_has_the_losses_of_a_plain_one(shards: Path, tmp_path: Path) -> None:
    train(settings(*EXACT), shards, tmp_path / "plain")
    train(settings(*EXACT, CAPTURED), shards, tmp_path / "captured")
    assert_alike(tmp_path / "captured", tmp_path / "plain", 1e-4)
    saved = [
        load_checkpoint(tmp_path / run / "checkpoints" / "last.safetensors") for run in ("plain", "captured")
    ]
    assert saved[0].optimizer is not None
    assert saved[1].optimizer is not None
    # A plain run can go on from it: rates are numbers, and nothing else tells how steps were taken.
    assert saved[0].optimizer["param_groups"] == saved[1].optimizer["param_groups"]


@pytest.mark.usefixtures("without_capture")
@pytest.mark.parametrize("item_table", ["adamw", "rowwise_adagrad"])
def test_interrupted_it_goes_on_alike(shards: Path, tmp_path: Path, item_table: str) -> None:
    config = settings(CAPTURED, f"optimizer.item_table={item_table}", "optimizer.schedule=linear")
    train(config, shards, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, shards, tmp_path / "broken", observer=Watcher(at_report=4))
    train(config, shards, tmp_path / "broken", resume=True)
    assert records(tmp_path / "broken") == records(tmp_path / "whole")
    assert same_weights(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


@pytest.mark.usefixtures("without_capture")
@pytest.mark.parametrize("first", ["true", "false"])
def test_a_run_can_go_on_with_capture_or_without(first: str, shards: Path, tmp_path: Path) -> None:
    then = "false" if first == "true" else "true"
    train(settings(*EXACT), shards, tmp_path / "plain")
    changed = tmp_path / "changed"
    train(settings(*EXACT, "train.epochs=1", f"train.cuda_graphs={first}"), shards, changed)
    train(settings(*EXACT, f"train.cuda_graphs={then}"), shards, changed, resume=True)
    assert_alike(changed, tmp_path / "plain", 1e-4)


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["model.kind=fuxi"],
        ["model.kind=llama"],
        ["model.kind=sasrec", "train.precision=bf16-mixed"],
        ["model.activation=softmax"],
        ["train.precision=bf16-mixed"],
        ["optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.1"],
        ["loss.kind=sampled_softmax", "loss.negatives.source=in_batch", "loss.negatives.logq=true"],
        [*IN_BATCH, "train.precision=bf16-mixed"],
        [*IN_BATCH, "optimizer.item_table=sparse_adam", "optimizer.clip_norm=0.1"],
        [*IN_BATCH, "optimizer.item_table=sparse_rowwise_adagrad", "optimizer.item_learning_rate=0.1"],
        ["loss.label_smoothing=0.1", "optimizer.weight_decay=0.1", "optimizer.decay_on=linear"],
        ["optimizer.schedule=cosine", "model.bias=position"],
    ],
    ids=" ".join,
)
def test_a_captured_training_has_the_losses_of_a_plain_one(
    changes: list[str], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over four epochs of several sizes each: most steps are replayed."""
    graphs_made = count_graphs(monkeypatch)
    config = (*EXACT, "train.device=cuda", "train.epochs=4", "model.blocks=2", *changes)
    train(settings(*config), shards, tmp_path / "plain")
    train(settings(*config, CAPTURED), shards, tmp_path / "captured")
    # In bfloat16, padding changes how products are cut, and so how they are rounded.
    tolerance = 0.05 if "train.precision=bf16-mixed" in changes else 1e-3
    assert_alike(tmp_path / "captured", tmp_path / "plain", tolerance)
    assert sum(graph.graph is not None for graph in graphs_made) >= 2


def count_graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    make = CudaGraphs.__call__

    def noted(self: CudaGraphs, work: Work) -> Any:
        made.append(make(self, work))
        return made[-1]

    monkeypatch.setattr(CudaGraphs, "__call__", noted)
    return made


@pytest.mark.gpu
@on_gpu
def test_replays_draw_anew(shards: Path, tmp_path: Path) -> None:
    """With all weights held still, dropout and negatives alone make the losses of epochs differ."""
    still = ("optimizer.learning_rate=1e-12", "model.dropout=0.5", "loss.negatives.count=3")
    config = settings(
        *still,
        CAPTURED,
        "train.device=cuda",
        "train.epochs=6",
        "train.batch_sequences=31",
        "train.log_every_steps=1",
    )
    train(config, shards, tmp_path / "run")
    losses = [line["loss"] for line in records(tmp_path / "run") if "loss" in line]
    assert len(set(losses)) == 6


@pytest.mark.gpu
@on_gpu
def test_a_captured_training_can_be_interrupted(shards: Path, tmp_path: Path) -> None:
    """Steps that are replayed in one run are taken as ever in the other, with the same random numbers."""
    config = settings(CAPTURED, "train.device=cuda", "train.epochs=6", "loss.negatives.count=3")
    train(config, shards, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, shards, tmp_path / "broken", observer=Watcher(at_report=8))
    train(config, shards, tmp_path / "broken", resume=True)
    assert_alike(tmp_path / "broken", tmp_path / "whole", 1e-3)


@pytest.mark.gpu
@on_gpu
def test_compiled_blocks_can_be_captured(shards: Path, tmp_path: Path) -> None:
    config = (*EXACT, "train.device=cuda", "train.epochs=4", "train.compile=true")
    train(settings(*config), shards, tmp_path / "plain")
    train(settings(*config, CAPTURED), shards, tmp_path / "captured")
    assert_alike(tmp_path / "captured", tmp_path / "plain", 1e-3)


@pytest.mark.gpu
@on_gpu
def test_what_is_captured_is_done_once_a_call() -> None:
    """Also by calls in turn of two graphs that share their memory."""
    from models.optim import OptimizerSet

    device = torch.device("cuda")
    total = torch.zeros(4, device=device)
    graphs = CudaGraphs(device, OptimizerSet())
    given = torch.zeros(4, device=device)

    def add(times: int) -> list[torch.Tensor]:
        total.add_(given * times)
        return [total * 1.0]

    works = [graphs(lambda times=times: add(times)) for times in (1, 10)]  # type: ignore[misc]
    results, expected, sums = [], [], 0
    for number in range(1, 6):
        for times, work in zip((1, 10), works, strict=True):
            given.fill_(number)
            results.append(work()[0])
            sums += number * times
            expected.append([sums] * 4)
    assert [result.tolist() for result in results] == expected
