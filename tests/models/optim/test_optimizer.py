"""Optimizers and the course of the learning rate, against loops written from the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from behavior.errors import UserError
from models.layers.roles import Role, roles_of
from models.optim import OptimizerConfig, OptimizerSet, build_optimizer
from models.optim.rowwise_adagrad import RowwiseAdagrad
from models.optim.schedule import learning_rate_factor


class Small(nn.Module):
    """Has parameters of three roles, the item table under a name that tells nothing."""

    parameter_roles = {"embedding.item.weight": Role.ITEM_TABLE}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.ModuleDict({"item": nn.Embedding(5, 3, padding_idx=0)})
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)

    def loss(self, items: list[int]) -> torch.Tensor:
        out: torch.Tensor = self.norm(self.linear(self.embedding["item"](torch.tensor(items)))).pow(3).sum()
        return out


def learn(module: Small, optimizer: OptimizerSet, batches: list[list[int]]) -> None:
    for batch in batches:
        optimizer.zero_grad()
        module.loss(batch).backward()
        optimizer.step()


BATCHES = [[1, 2], [2, 2, 3], [1, 4], [2, 3]]


def test_rowwise_adagrad_is_its_formula_row_by_row() -> None:
    rate, eps, decay = 0.3, 1e-8, 0.1
    torch.manual_seed(1)
    table = nn.Parameter(torch.randn(4, 3))
    optimizer = RowwiseAdagrad([table], lr=rate, weight_decay=decay)
    rows = table.tolist()
    sums = [0.0] * 4
    for step in range(5):
        table.grad = torch.randn(4, 3)
        table.grad[step % 4] = 0.0
        for row in range(4):
            grad = table.grad[row].tolist()
            sums[row] += sum(g * g for g in grad) / len(grad)
            for column, g in enumerate(grad):
                decayed = rows[row][column] * (1 - rate * decay)
                rows[row][column] = decayed - rate * g / (math.sqrt(sums[row]) + eps)
        optimizer.step()
    torch.testing.assert_close(table.data, torch.tensor(rows))
    torch.testing.assert_close(optimizer.state[table]["sum"], torch.tensor(sums))


def test_rows_without_gradient_stay_as_they_are() -> None:
    table = nn.Parameter(torch.randn(3, 2))
    before = table.detach().clone()
    table.grad = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    RowwiseAdagrad([table], lr=1.0).step()
    assert torch.equal(table[[0, 2]], before[[0, 2]])
    assert not torch.equal(table[1], before[1])


def test_an_item_table_has_one_number_of_state_a_row() -> None:
    module = Small()
    optimizer = build_optimizer(OptimizerConfig(item_table="rowwise_adagrad"), module)
    learn(module, optimizer, BATCHES)
    state = optimizer.state_dict()["state"]
    numbers = [parameter.shape for parameter in optimizer.parameters].index((5, 3))
    assert {name: list(value.shape) for name, value in state[numbers].items()} == {"sum": [5]}
    others = [values for number, values in state.items() if number != numbers]
    assert all(set(values) == {"step", "exp_avg", "exp_avg_sq"} for values in others)
    assert len(others) == 4


class Plain(nn.Module):
    """Has no table and no matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2)


@pytest.mark.parametrize(
    ("config", "where"),
    [
        (OptimizerConfig(item_table="rowwise_adagrad"), "optimizer.item_table = rowwise_adagrad"),
        (OptimizerConfig(decay_on="linear", weight_decay=0.1), "optimizer.decay_on = linear"),
        (OptimizerConfig(logit_learning_rate=0.5), "optimizer.logit_learning_rate = 0.5"),
        (OptimizerConfig(item_weight_decay=0.5), "optimizer.item_weight_decay = 0.5"),
        (OptimizerConfig(item_learning_rate=0.5), "optimizer.item_learning_rate = 0.5"),
    ],
)
def test_a_setting_for_parameters_that_are_not_there_is_an_error(config: OptimizerConfig, where: str) -> None:
    with pytest.raises(UserError) as raised:
        build_optimizer(config, Plain())
    assert raised.value.where == where
    assert "vector (2)" in str(raised.value) or "item_learning_rate" in where
    assert ("loss.history" in str(raised.value)) == ("logit" in where)


def test_the_item_table_may_have_a_learning_rate_of_its_own() -> None:
    config = OptimizerConfig(learning_rate=0.1, item_table="rowwise_adagrad", item_learning_rate=0.5)
    optimizer = build_optimizer(config, Small())
    optimizer.scale_learning_rates(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.25]
    assert optimizer.learning_rate == 0.05


@pytest.mark.parametrize("item_table", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("decay_on", ["all", "linear"])
def test_the_item_table_may_decay_alone(item_table: str, decay_on: str) -> None:
    """Without gradients, decay alone changes parameters."""
    module = Small()
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    config = OptimizerConfig(
        learning_rate=0.1, item_weight_decay=1.0, item_table=item_table, decay_on=decay_on
    )
    optimizer = build_optimizer(config, module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, weight in module.named_parameters():
        factor = 0.9 if roles_of(module)[weight] is Role.ITEM_TABLE else 1.0
        torch.testing.assert_close(weight, before[name] * factor)
    assert any(not torch.equal(weight, before[name]) for name, weight in module.named_parameters())
    assert {id(one) for one in optimizer.parameters} == {id(one) for one in module.parameters()}


class Copying(nn.Module):
    """Has a table that is added to logits, between others."""

    parameter_roles = {"first": Role.MATRIX, "table": Role.LOGIT, "last": Role.VECTOR}

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "table", "last"):
            self.register_parameter(name, nn.Parameter(torch.ones(2, 2)))


@pytest.mark.parametrize(("decay_on", "decays"), [("all", [0.1, 0.1, 0.1]), ("linear", [0.1, 0.0, 0.0])])
def test_logits_may_have_a_learning_rate_of_their_own(decay_on: str, decays: list[float]) -> None:
    config = OptimizerConfig(learning_rate=0.1, logit_learning_rate=0.5, weight_decay=0.1, decay_on=decay_on)
    module = Copying()
    optimizer = build_optimizer(config, module)
    optimizer.scale_learning_rates(0.5)
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    parts = {"first": (0.05, decays[0]), "table": (0.25, decays[1]), "last": (0.05, decays[2])}
    assert found == {id(module.get_parameter(name)): expected for name, expected in parts.items()}
    assert optimizer.learning_rate == 0.05
    alike = build_optimizer(OptimizerConfig(learning_rate=0.1), module)
    assert [id(one) for one in alike.parameters] == [id(one) for one in module.parameters()]


@pytest.mark.parametrize("item_table", ["adamw", "rowwise_adagrad"])
@pytest.mark.parametrize("decay_on", ["all", "linear"])
def test_taken_up_again_it_goes_on_alike(item_table: str, decay_on: str) -> None:
    config = OptimizerConfig(item_table=item_table, decay_on=decay_on, weight_decay=0.1, learning_rate=0.1)
    whole, first, second = Small(), Small(), Small()
    learn(whole, build_optimizer(config, whole), BATCHES)
    optimizer = build_optimizer(config, first)
    learn(first, optimizer, BATCHES[:2])
    second.load_state_dict(first.state_dict())
    again = build_optimizer(config, second)
    again.load_state_dict(optimizer.state_dict())
    learn(second, again, BATCHES[2:])
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_one_adamw_has_the_state_dict_of_adamw() -> None:
    module = Small()
    ours = build_optimizer(OptimizerConfig(), module)
    learn(module, ours, BATCHES)
    assert ours.state_dict() == ours.optimizers[0].state_dict()


def test_decay_falls_on_what_is_chosen() -> None:
    """Without gradients, decay alone changes AdamW's parameters."""
    for decay_on, decays in (("all", {"item", "weight", "bias", "norm"}), ("linear", {"weight"})):
        module = Small()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(1.0)
        optimizer = build_optimizer(
            OptimizerConfig(learning_rate=0.1, weight_decay=0.5, decay_on=decay_on), module
        )
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        named = {
            "item": module.embedding["item"].weight,
            "weight": module.linear.weight,
            "bias": module.linear.bias,
            "norm": module.norm.weight,
        }
        changed = {name for name, weight in named.items() if not torch.equal(weight, torch.ones_like(weight))}
        assert changed == decays
        torch.testing.assert_close(module.linear.weight.data, torch.full((2, 3), 0.95))


def factors(schedule: str, warmup: int, steps: int) -> list[float]:
    return [learning_rate_factor(schedule, warmup, step, step / steps) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_warm_up_is_linear(schedule: str) -> None:
    assert factors(schedule, 4, 20)[:4] == [0.25, 0.5, 0.75, 1.0]


def test_the_rate_falls_as_the_schedule_says() -> None:
    left = [(step - 4) / 16 for step in range(4, 20)]  # share of what follows the warm-up
    assert factors("constant", 4, 20)[4:] == [1.0] * 16
    assert factors("linear", 4, 20)[4:] == pytest.approx([1 - share for share in left])
    assert factors("cosine", 4, 20)[4:] == pytest.approx([(1 + math.cos(math.pi * s)) / 2 for s in left])
    assert factors("inverse_sqrt", 4, 20)[4:] == pytest.approx([math.sqrt(4 / (s + 1)) for s in range(4, 20)])


def test_without_warm_up_it_falls_from_the_first_step() -> None:
    assert factors("linear", 0, 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert factors("cosine", 0, 2) == pytest.approx([1.0, 0.5])
    assert factors("inverse_sqrt", 0, 4) == pytest.approx([1.0, 2**-0.5, 3**-0.5, 0.5])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 2), (1, 1), (1, 2), (3, 3), (3, 4), (7, 1000)])
def test_no_step_is_lost_and_the_peak_is_reached(schedule: str, warmup: int, steps: int) -> None:
    found = factors(schedule, warmup, steps)
    assert min(found) > 0.0
    assert max(found) == 1.0
    assert found[: max(warmup, 1)] == sorted(found[: max(warmup, 1)])
    assert found[max(warmup - 1, 0) :] == sorted(found[max(warmup - 1, 0) :], reverse=True)


def test_a_last_step_of_a_few_samples_has_a_rate() -> None:
    for schedule in ("linear", "cosine"):
        assert learning_rate_factor(schedule, 0, 10**6, 1.0 - 2**-50) > 0.0  # type: ignore[arg-type]


def test_a_warm_up_longer_than_the_training_never_ends() -> None:
    assert factors("linear", 100, 5) == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])
