"""Captured steps with domains: embedded, asked for, and competed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.attention.bias import time_bucket
from models.attention.dispatch import Kernel
from models.build import make_loader, sequences_of
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.history.recency import recency_bucket
from models.optim import build_optimizer
from models.tasks.task import Task
from models.training import static_input
from models.training.captured_step import CapturedStepper
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.evaluation.domain_world import make_log
from tests.models.training.test_captured_step import LONGEST, NothingRead, steppers
from tests.models.training.test_training_steps import task_of
from tests.models.training.training_runs import settings

WITHIN = ["loss.negatives.domain=within", "embedding.domains=add", "embedding.query_domain=add"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_log(users=40).write(tmp_path_factory.mktemp("data"))


def batches(config: RunConfig, task: Task, shards: Path) -> list[PackedBatch]:
    loader = make_loader(config, sequences_of(open_shards(shards), config, task.columns), ("view", "buy"))
    made = list(loader)
    loader.close()
    return made


@pytest.mark.parametrize("source", ["full_softmax", "in_batch"])
def test_padding_changes_nothing(source: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    loss = "loss.kind=full_softmax" if source == "full_softmax" else f"loss.negatives.source={source}"
    config = settings(*WITHIN, loss, "model.dropout=0")
    plain, captured = steppers(config, lambda: task_of(config, shards))
    for number, batch in enumerate(batches(config, task_of(config, shards), shards), 1):
        one, other = (stepper.take([batch], number, 0) for stepper in (plain, captured))
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one.losses, other.losses, rtol=1e-5, atol=1e-5)
    assert len(captured.steps) > 1
    for one, other in zip(plain.module.parameters(), captured.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        ["loss.kind=full_softmax"],
        ["loss.negatives.source=mixed", "loss.negatives.logq=true", "loss.negatives.popularity_power=0.5"],
        ["loss.negatives.sharing=batch", "loss.negatives.logq=true"],
        ["loss.history=learned", "loss.jumps=learned", "loss.jump_own=subtract", "loss.trends=learned"],
    ],
    ids=" ".join,
)
def test_a_step_reads_nothing_back(loss: list[str], shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = Kernel("blind", list, lambda _: [], lambda inputs: inputs.v * inputs.q.sum() * inputs.k.sum())
    monkeypatch.setattr(dispatch, "KERNELS", (blind,))
    time_bucket(torch.zeros(1, dtype=torch.int64))  # bounds of buckets are copied to a device once
    recency_bucket(torch.zeros(1, dtype=torch.int64))
    config = settings(*WITHIN, *loss)
    task = task_of(config, shards)

    def watched(work):  # type: ignore[no-untyped-def]
        def run():  # type: ignore[no-untyped-def]
            with NothingRead():
                return work()

        return run

    optimizer = build_optimizer(config.optimizer, task.objective)
    fabric = Fabric(accelerator="cpu", devices=1)
    captured = CapturedStepper(fabric, task, optimizer, None, LONGEST, watched)
    assert captured.take(batches(config, task, shards)[:1], 1, 0) is not None
