"""Gradients and optimizers by rows, against dense ones written from their formulas in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor, nn

from behavior.errors import UsageError, UserError
from models.config import load_config
from models.distributed.processes import Processes
from models.distributed.tables import ShardedTable, WholeTable, clip_grad_norm
from models.distributed.tables.row_gradient import sum_by_row
from models.layers.roles import Role
from models.optim import OptimizerConfig, build_optimizer
from models.optim.by_rows import RowOptimizer, SparseAdam, SparseRowwiseAdagrad
from models.training import train
from tests.models.distributed.threads import together
from tests.models.training.training_runs import Killed, Watcher, circle, same_weights, settings, weights

ROWS, DIM = 7, 3
RATE, DECAY, BETAS, EPS = 0.3, 0.1, (0.9, 0.98), 1e-8
LOOKUPS = [[1, 2, 2, 0], [3], [1, 3, 3, 6], [], [2, 0, 0], [1], [6, 6, 6, 1, 2]]
"""Of each step; row 2 rests for three steps, 4 and 5 are never touched, 0 is padding."""


@given(st.lists(st.lists(st.integers(0, ROWS - 1), max_size=9), max_size=3), st.integers(0, 9))
@examples(max_examples=40)
def test_sums_by_row_are_those_of_a_whole_gradient(lookups: list[list[int]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    whole, found = np.zeros((ROWS, DIM)), []
    for rows in lookups:
        gradient = generator.normal(size=(len(rows), DIM)).astype(np.float32)
        np.add.at(whole, rows, gradient)
        found.append((torch.tensor(rows, dtype=torch.int64), torch.from_numpy(gradient)))
    whole[0] = 0.0
    rows, values = sum_by_row(found, torch.zeros(ROWS, DIM))
    assert len(rows) == sum(map(len, lookups))
    assert sorted(rows[rows > 0].tolist()) == sorted({row for each in lookups for row in each} - {0})
    again = np.zeros((ROWS, DIM))
    again[rows.numpy()] = values.numpy()
    np.testing.assert_allclose(again, whole, atol=1e-5)
    assert not values[rows == 0].any()


class Dense:
    """What a table of float64 is after each step, by the formulas of whole gradients."""

    def __init__(self, table: Tensor) -> None:
        self.weight = table.detach().double().cpu().numpy().copy()
        self.sums = np.zeros(ROWS)
        self.m, self.v, self.t = np.zeros((ROWS, DIM)), np.zeros((ROWS, DIM)), 0

    def decay(self, gradient: np.ndarray, rate: float) -> np.ndarray:
        touched = gradient.any(1)
        self.weight[touched] *= 1 - rate * DECAY
        return touched

    def adagrad(self, gradient: np.ndarray, rate: float) -> None:
        touched = self.decay(gradient, rate)
        self.sums += (gradient**2).mean(1)
        self.weight[touched] -= rate * gradient[touched] / (np.sqrt(self.sums[touched]) + EPS)[:, None]

    def adam(self, gradient: np.ndarray, rate: float) -> None:
        touched = self.decay(gradient, rate)
        self.t += 1
        self.m = BETAS[0] * self.m + (1 - BETAS[0]) * gradient  # of all rows, in every step
        self.v = BETAS[1] * self.v + (1 - BETAS[1]) * gradient**2
        change = (self.m / (1 - BETAS[0] ** self.t)) / (np.sqrt(self.v / (1 - BETAS[1] ** self.t)) + EPS)
        self.weight[touched] -= rate * change[touched]


def steps(table: WholeTable, optimizer: RowOptimizer) -> Iterator[tuple[np.ndarray, float]]:
    """Take a step for each list of look-ups; gives its whole gradient and rate."""
    for number, rows in enumerate(LOOKUPS):
        rate = RATE / (1 + number)
        optimizer.param_groups[0]["lr"] = torch.tensor(rate) if number % 2 else rate
        optimizer.zero_grad()
        ids = torch.tensor(rows, dtype=torch.int64, device=table.weight.device)
        factor = torch.randn(len(rows), DIM, device=ids.device)
        half = len(rows) // 2  # as inputs and negatives are: two look-ups
        vectors = torch.cat([table(ids[:half]), table(ids[half:])])
        assert torch.equal(vectors, table.weight[ids])
        (vectors * factor).sum().backward()
        table.finish_gradients()
        assert table.weight.grad is None
        whole = np.zeros((ROWS, DIM))
        np.add.at(whole, rows, factor.double().cpu().numpy())
        whole[0] = 0.0
        optimizer.step()
        yield whole, rate


@pytest.mark.parametrize("kind", ["adagrad", "adam"])
def test_rows_are_updated_by_the_formula_and_no_others(kind: str) -> None:
    check_updates(kind, "cpu")


def check_updates(kind: str, device: str) -> None:
    """By one of the optimizers, on a device."""
    torch.manual_seed(0)
    table = WholeTable(ROWS, DIM).to(device)
    nn.init.normal_(table.weight[1:].detach())
    dense, untouched = Dense(table.weight), table.weight[4:6].detach().clone()
    optimizer: RowOptimizer = (
        SparseRowwiseAdagrad([table], [DECAY], lr=RATE, eps=EPS)
        if kind == "adagrad"
        else SparseAdam([table], [DECAY], lr=RATE, betas=BETAS, eps=EPS)
    )
    for gradient, rate in steps(table, optimizer):
        getattr(dense, kind)(gradient, rate)
        np.testing.assert_allclose(table.weight.detach().cpu().numpy(), dense.weight, atol=2e-5)
    assert torch.equal(table.weight[4:6], untouched)
    state = {name: value.cpu() for name, value in optimizer.state[table.weight].items()}
    assert {name: value.shape for name, value in state.items()} == optimizer.state_shapes(table.weight.shape)
    if kind == "adam":
        at = state["last"] > 0  # others have decayed since, which is made up for when they are touched
        fading = np.power(BETAS[0], dense.t - state["last"].numpy())[:, None]
        np.testing.assert_allclose((state["exp_avg"].numpy() * fading)[at], dense.m[at], atol=1e-5)


def test_clipping_counts_rows_once_and_scales_them() -> None:
    torch.manual_seed(0)
    table, other = WholeTable(ROWS, DIM), nn.Parameter(torch.randn(4))
    SparseRowwiseAdagrad([table], [0.0], lr=RATE)
    plain = nn.Parameter(table.weight.detach().clone())
    ids = torch.tensor([1, 2, 2, 0, 5])
    factor = torch.randn(5, DIM)
    (table(ids) * factor).sum().backward()
    table.finish_gradients()
    (nn.functional.embedding(ids, plain, padding_idx=0) * factor).sum().backward()
    grads = []
    for weight, tables in ((table.weight, [table]), (plain, [])):
        other.grad = torch.arange(4.0)
        norm = clip_grad_norm([weight, other], 0.5, tables)
        grads.append((norm, other.grad.clone()))
    torch.testing.assert_close(grads[0], grads[1])
    rows, values = table.row_gradient
    assert plain.grad is not None
    torch.testing.assert_close(values[rows > 0], plain.grad[rows[rows > 0]])


def test_divided_tables_have_the_gradients_of_a_whole_one() -> None:
    """Averaged over processes, each of which looks up other ids."""
    ids = [torch.tensor([1, 3, 3, 0, 6]), torch.tensor([2, 3])]
    factor = [torch.randn(5, DIM), torch.randn(2, DIM)]

    def work(processes: Processes) -> list[tuple[int, list[float]]]:
        table = ShardedTable(ROWS, DIM, processes)
        table.keep_row_gradients()
        for _ in range(2):  # two micro-batches
            (table(ids[processes.rank]) * factor[processes.rank]).sum().backward()
            table.finish_gradients()
        assert table.weight.grad is None
        rows, values = table.row_gradient
        held = table.own_ids[rows].tolist()
        return [(row, value) for row, value in zip(held, values.tolist(), strict=True) if row]

    whole = np.zeros((ROWS, DIM))
    for rows, of in zip(ids, factor, strict=True):
        np.add.at(whole, rows.numpy(), of.numpy())  # twice, and half of it
    whole[0] = 0.0
    found = dict(one for part in together(2, work) for one in part)
    assert sorted(found) == [1, 2, 3, 6]
    for row, value in found.items():
        np.testing.assert_allclose(value, whole[row], atol=1e-5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


SPARSE = "optimizer.item_table=sparse_rowwise_adagrad"


@pytest.mark.parametrize(
    "changes",
    [
        ["optimizer.clip_norm=0.05", "train.accumulate=2", "loss.negatives.count=3"],
        ["loss.negatives.source=in_batch", "loss.negatives.logq=true"],
        # More draws than items: all vectors are made once, and rows looked up among them.
        ["loss.negatives.count=64", "loss.negatives.sharing=batch", "loss.kind=bce"],
    ],
)
def test_a_training_by_rows_is_the_one_with_whole_gradients(
    changes: list[str], shards: Path, tmp_path: Path
) -> None:
    """Row-wise Adagrad, which leaves other rows alone in both."""
    runs = []
    for name in ("rowwise_adagrad", "sparse_rowwise_adagrad"):
        setting = f"optimizer.item_table={name}"
        train(settings(setting, *changes, "train.epochs=2"), shards, tmp_path / name)
        runs.append(weights(tmp_path / name))
    whole, by_rows = runs
    for name, weight in whole.items():
        torch.testing.assert_close(by_rows[name], weight, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("optimizer", ["sparse_rowwise_adagrad", "sparse_adam"])
def test_a_killed_run_ends_as_one_that_was_not(optimizer: str, shards: Path, tmp_path: Path) -> None:
    config = settings(f"optimizer.item_table={optimizer}", "optimizer.item_learning_rate=0.02")
    train(config, shards, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, shards, tmp_path / "broken", observer=Watcher(at_report=3))
    train(config, shards, tmp_path / "broken", resume=True)
    assert same_weights(weights(tmp_path / "whole"), weights(tmp_path / "broken"))


def test_where_it_makes_no_sense_it_is_refused_with_the_reason(tmp_path: Path) -> None:
    full = [SPARSE, "loss.kind=full_softmax"]
    with pytest.raises(UsageError, match="gives every item a gradient"):
        load_config(overrides=full)
    recipe = tmp_path / "full.yaml"
    recipe.write_text("loss: {kind: full_softmax}")
    load_config(recipe, [SPARSE, "task.kind=ranking", "task.label=buy"])  # which has no softmax over items
    with pytest.raises(UserError, match="trains no item table"):
        build_optimizer(OptimizerConfig(item_table="sparse_adam"), Elsewhere())


class Elsewhere(nn.Module):
    """Has item vectors that are no item table of ours, and a feature table."""

    parameter_roles = {"item.weight": Role.ITEM_TABLE, "feature.weight": Role.FEATURE_TABLE}

    def __init__(self, item: nn.Module | None = None) -> None:
        super().__init__()
        self.item = item or nn.Embedding(4, 2)
        self.feature = nn.Embedding(3, 2)
        self.linear = nn.Linear(2, 2)


@pytest.mark.parametrize("name", ["sparse_rowwise_adagrad", "sparse_adam"])
def test_other_tables_have_whole_gradients(name: str) -> None:
    module = Elsewhere(WholeTable(4, 2))
    config = OptimizerConfig(
        item_table=name,  # type: ignore[arg-type]
        item_learning_rate=0.5,
        weight_decay=0.1,
        item_weight_decay=0.2,
    )
    made = build_optimizer(config, module)
    assert made.parameters[-1] is module.item.weight
    assert (made.param_groups[-1]["lr"], made.param_groups[-1]["weight_decay"]) == (0.5, 0.2)
    feature = next(g for g in made.param_groups if any(p is module.feature.weight for p in g["params"]))
    assert feature["lr"] == (0.5 if name == "sparse_rowwise_adagrad" else config.learning_rate)
    shapes = made.state_shapes([parameter.shape for parameter in made.parameters])
    assert shapes[-1] == type(made.optimizers[-1]).state_shapes(module.item.weight.shape)  # type: ignore[attr-defined]
