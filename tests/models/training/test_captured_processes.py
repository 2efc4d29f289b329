"""Steps of fixed sizes taken by two processes together: what would be captured, without a capture."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import pytest
import torch
from lightning.fabric import Fabric

from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task, make_loader
from models.config import RunConfig
from models.data.batch import PackedBatch
from models.data.loading import MemorySource
from models.distributed.processes import SINGLE, Processes
from models.distributed.tables import WholeStates, WholeTable, tables_divided_among
from models.optim import build_optimizer
from models.tasks.retrieval import RetrievalObjective
from models.tasks.task import Task
from models.training import static_input
from models.training.captured_step import CapturedStepper
from models.training.cuda_graph import Captured
from models.training.setup import _keep_alike
from models.training.step import Stepper
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.distributed.threads import together
from tests.models.shards import load
from tests.models.training.test_captured_step import draw_the_same
from tests.models.training.training_runs import circle, settings

LONGEST = 8
# 31 sequences in steps of 6: one of two processes has nothing to do in the last step of an epoch.
COMMON = ("model.dropout=0", "train.batch_sequences=6", "optimizer.clip_norm=0.1", "model.blocks=1")
FULL = "loss.kind=full_softmax"
SHARED = ("loss.negatives.sharing=batch", "loss.negatives.count=5")
ROWS = ("optimizer.item_table=sparse_rowwise_adagrad", "optimizer.item_learning_rate=0.1")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"), ("view", "buy"))


@pytest.fixture(autouse=True)
def _small_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)


def task_among(
    config: RunConfig, shards: Path, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> Task:
    torch.manual_seed(0)
    owners = processes if config.train.item_table == "sharded" else SINGLE
    task = build_task(config, open_shards(shards), tables_divided_among(owners))
    assert isinstance(task.objective, RetrievalObjective)
    draw_the_same(task.objective, monkeypatch)
    return task


def batches_of(config: RunConfig, shards: Path, processes: Processes) -> list[PackedBatch]:
    """Of a process, in the first epoch."""
    source = MemorySource([load(shards)])
    ranks = {"rank": processes.rank, "num_replicas": processes.count}
    loader = make_loader(config, source, ("view", "buy"), **ranks)
    made = list(loader)
    loader.close()
    return made


def taken_by(stepper: Stepper, batches: list[PackedBatch]) -> list[tuple[float, float, float]]:
    """Loss, norm of the gradient and positions of each step."""
    found = []
    for number, batch in enumerate(batches, 1):
        taken = stepper.take([batch], number, 0)
        assert taken is not None
        assert taken.gradient_norm is not None
        found.append((float(sum(taken.losses)), float(taken.gradient_norm), taken.work.positions))
    return found


@pytest.mark.parametrize(
    "changes",
    [
        [FULL],
        [FULL, "train.item_table=sharded"],
        [*SHARED, "embedding.behaviors=add"],
        [*SHARED, *ROWS],
        [*SHARED, *ROWS, "train.item_table=sharded"],
        [*SHARED, "optimizer.item_table=sparse_adam", "optimizer.weight_decay=0.1"],
        [*SHARED, "loss.behavior_weights={buy: 0.2}"],
    ],
    ids=" ".join,
)
def test_two_processes_take_the_steps_of_one(
    changes: list[str], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, norms and weights are those of plain steps on whole batches; copies are alike to the bit."""
    config = settings(*COMMON, *changes)
    fabric, clip_norm = Fabric(accelerator="cpu", devices=1), config.optimizer.clip_norm
    task = task_among(config, shards, SINGLE, monkeypatch)
    plain = Stepper(fabric, SINGLE, task, build_optimizer(config.optimizer, task.objective), clip_norm)
    expected = taken_by(plain, batches_of(config, shards, SINGLE))
    wanted = task.model.state_dict()
    lock = Lock()

    def part(processes: Processes) -> tuple[list[tuple[float, float, float]], dict[str, torch.Tensor], int]:
        with lock:  # there is one generator of random numbers
            own = task_among(config, shards, processes, monkeypatch)
        optimizer = build_optimizer(config.optimizer, own.objective)
        if config.train.item_table != "sharded":
            _keep_alike(own, processes)
        stepper = CapturedStepper(
            fabric, own, optimizer, clip_norm, LONGEST, lambda work: work, processes=processes
        )
        found = taken_by(stepper, batches_of(config, shards, processes))
        whole = WholeStates(own.model, list(own.model.parameters())).whole_weights(own.model.state_dict())
        return found, whole, len(stepper.steps)

    (mine, weights, sizes), (theirs, others, _) = together(2, part)
    assert sizes > 1
    for one, other, all_of_it in zip(mine, theirs, expected, strict=True):
        assert (one[0] + other[0]) / 2 == pytest.approx(all_of_it[0], rel=1e-4)
        assert one[1:] == pytest.approx(all_of_it[1:], rel=1e-4)
        assert one[1] == other[1]
    for name, weight in weights.items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
        if config.train.item_table != "sharded":
            assert torch.equal(weight, others[name]), name


@pytest.mark.parametrize(("rows", "sends_rows"), [(400, True), (5, False)])
def test_copies_of_a_table_get_the_gradient_of_all_look_ups(rows: int, sends_rows: bool) -> None:
    """Sent by rows or whole; a process may look up nothing, and padding has no gradient."""
    looked_up = [torch.tensor([3, 0, 2, 3, 4]), torch.tensor([2, 1])]
    torch.manual_seed(0)
    factors = torch.rand(2, 5, 4)
    made = [WholeTable(rows, 4) for _ in range(2)]
    expected = torch.zeros(rows, 4)
    for ids, factor in zip(looked_up, factors, strict=True):
        for row, values in zip(ids.tolist(), factor, strict=False):
            expected[row] += values / 2 if row else 0.0

    def part(processes: Processes) -> tuple[torch.Tensor, list[int], torch.Tensor]:
        table, ids, sent = made[processes.rank], looked_up[processes.rank], []
        gather = processes.all_gather
        processes.all_gather = lambda one: sent.append(one.shape[0]) or gather(one)  # type: ignore
        table.keep_alike(processes)
        sent.clear()
        for times in (1, 2):  # both micro-batches count
            (table(ids) * factors[processes.rank, : len(ids)]).sum().backward()
            if times == 2 and processes.rank == 1:
                table.pending.clear()
            table.finish_gradients()
        assert table.weight.grad is not None
        return table.weight.grad, sent, table.weight.detach()

    (mine, sent, weight), (theirs, _, other) = together(2, part)
    alone = expected.clone()
    for row, values in zip(looked_up[0].tolist(), factors[0], strict=True):
        alone[row] += values / 2 if row else 0.0
    torch.testing.assert_close(mine, alone)
    assert torch.equal(mine, theirs)
    assert torch.equal(weight, other)  # the second copy's own is gone
    assert bool(sent) is sends_rows


def test_graphs_are_freed_when_training_ends() -> None:
    class Graph:
        freed = 0

        def reset(self) -> None:
            self.freed += 1

    graph = Graph()
    captured = Captured.__new__(Captured)
    captured.graph = graph  # type: ignore[assignment]
    stepper = CapturedStepper.__new__(CapturedStepper)
    stepper.steps = {static_input.StepSize(1, 1, 1): (None, captured)}  # type: ignore[dict-item]
    stepper.close()
    stepper.close()
    assert (graph.freed, stepper.steps) == (1, {})
