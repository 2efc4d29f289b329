"""A table whose rows are divided among processes, against the same table in one place."""

from __future__ import annotations

import copy
from threading import Lock
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.distributed.processes import Processes
from models.distributed.tables import (
    ItemTable,
    RowShards,
    ShardedTable,
    WholeStates,
    WholeTable,
    clip_grad_norm,
    item_tables,
    sharded,
)
from models.layers.roles import Role
from models.optim import OptimizerConfig, OptimizerSet, build_optimizer
from tests.models.distributed.threads import together

DIM = 3
SHAPES = st.tuples(st.integers(1, 13), st.integers(1, 4))
# Threads share the generator of random numbers.
ONE_BY_ONE = Lock()


class Toy(nn.Module):
    """An item table, and something else that is learned."""

    parameter_roles = {"embedding.item.weight": Role.ITEM_TABLE, "scale": Role.VECTOR}

    def __init__(self, item: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.ModuleDict({"item": item})
        self.scale = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def loss(self, ids: Tensor) -> Tensor:
        vectors = self.embedding["item"](ids) * self.scale
        return (vectors * (1.0 + ids[:, None])).square().sum()


def seeded(processes: Processes | None, rows: int) -> ItemTable:
    with ONE_BY_ONE:
        torch.manual_seed(rows)
        return WholeTable(rows, DIM) if processes is None else ShardedTable(rows, DIM, processes)


@given(shape=SHAPES, data=st.data())
def test_rows_are_dealt_out_and_put_together_again(shape: tuple[int, int], data: st.DataObject) -> None:
    """Counted on the fingers: row 1 is the first process's, row 2 the second's, and so on in turn."""
    rows, count = shape
    holder = {row: (row - 1) % count for row in range(1, rows)}
    whole = torch.arange(rows)
    parts = [RowShards(rows, rank, count) for rank in range(count)]
    first = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(first + 1, rows))
    sent = []
    for rank, shards in enumerate(parts):
        mine = [row for row in range(1, rows) if holder[row] == rank]
        assert shards.take(whole).tolist() == [0, *mine]
        assert shards.own == 1 + len(mine)
        places = [1 + mine.index(row) if row in mine else 0 for row in range(rows)]
        assert shards.local(whole).tolist() == places
        known = [row for row in mine if row >= first]
        assert shards.count_held(max(first, 1)) == len(known)
        assert shards.held(max(first, 1), torch.device("cpu")).tolist() == known
        asked = torch.arange(max(first, 1), rows)
        assert shards.place(asked, max(first, 1)).tolist() == [
            known.index(row) if row in known else -1 for row in asked.tolist()
        ]
        part = shards.take(whole)[shards.within(first, stop)]
        width = shards.within(first, stop).stop - shards.within(first, stop).start
        sent.append(torch.cat([part, torch.full((width - len(part),), -1)]))
    joined = parts[0].joined(torch.stack(sent), first, stop)
    assert joined.tolist() == list(range(first, stop))


@pytest.mark.parametrize("drawn", [1 << 26, 12])
def test_initial_rows_do_not_depend_on_the_number_of_processes(
    drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn all at once, as in one place, or four rows at a time."""
    monkeypatch.setattr(sharded, "_DRAWN", drawn)
    monkeypatch.setattr(sharded, "_GATHERED", 7)

    def make(processes: Processes) -> Tensor:
        table = seeded(processes, 11)
        return table.gathered(table.weight.detach())

    wholes = {count: together(count, make)[0] for count in (1, 2, 3)}
    assert torch.equal(wholes[1], wholes[2])
    assert torch.equal(wholes[1], wholes[3])
    assert not wholes[1][0].any()
    assert len(wholes[1].unique()) == 1 + 10 * DIM
    plain = seeded(None, 11)
    assert torch.equal(wholes[1], plain.weight) == (drawn > 12)


@settings(deadline=None, max_examples=30)
@given(
    asked=st.lists(
        st.lists(st.lists(st.integers(0, 6), max_size=9), min_size=2, max_size=2), min_size=1, max_size=3
    )
)
def test_lookups_and_their_gradients_are_those_of_one_table(asked: list[list[list[int]]]) -> None:
    """Each process looks up twice, any number of ids each time; a second backward pass adds to the first."""
    count, rows = len(asked), 7

    def losses(table: nn.Module, lists: list[list[int]]) -> tuple[list[Tensor], Tensor]:
        found = [table(torch.tensor(ids, dtype=torch.int64)) for ids in lists]
        return found, sum((vectors * (at + 1.0)).square().sum() for at, vectors in enumerate(found))  # type: ignore[return-value]

    def work(processes: Processes) -> tuple[list[Tensor], Tensor, RowShards]:
        table = seeded(processes, rows)
        for _ in range(2):
            found, loss = losses(table, asked[processes.rank])
            loss.backward()
            table.finish_gradients()
        assert table.weight.grad is not None
        assert not table.pending
        return [vectors.detach() for vectors in found], table.weight.grad, table.shards

    plain = seeded(None, rows)
    expected = []
    for lists in asked:
        found, loss = losses(plain, lists)
        (2.0 * loss / count).backward()  # processes' gradients are averaged
        expected.append(found)
    for (found, gradient, shards), wanted in zip(together(count, work), expected, strict=True):
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, theirs)
        assert isinstance(plain.weight.grad, Tensor)
        torch.testing.assert_close(gradient, shards.take(plain.weight.grad))


@pytest.mark.parametrize("max_norm", [0.01, 1e6])
def test_clipping_counts_the_rows_of_all_processes(max_norm: float) -> None:
    ids = [[1, 2, 2], [5, 0]]

    def work(processes: Processes) -> tuple[Tensor, Tensor, Tensor, RowShards]:
        toy = Toy(table := seeded(processes, 6))
        toy.loss(torch.tensor(ids[processes.rank])).backward()
        table.finish_gradients()
        assert toy.scale.grad is not None
        assert table.weight.grad is not None
        toy.scale.grad = processes.all_reduce(toy.scale.grad) / processes.count  # as DDP does
        norm = clip_grad_norm(list(toy.parameters()), max_norm, item_tables(toy))
        return norm, toy.scale.grad, table.weight.grad, table.shards

    plain = Toy(seeded(None, 6))
    (sum(plain.loss(torch.tensor(own)) for own in ids) / 2.0).backward()
    wanted = nn.utils.clip_grad_norm_(plain.parameters(), max_norm)
    whole = plain.embedding["item"].weight.grad
    assert isinstance(whole, Tensor)
    for norm, scale, table, shards in together(2, work):
        torch.testing.assert_close(norm, wanted)
        torch.testing.assert_close(scale, plain.scale.grad)
        torch.testing.assert_close(table, shards.take(whole))


@pytest.mark.parametrize("kind", ["adamw", "rowwise_adagrad"])
def test_saved_states_are_those_of_one_table(kind: str) -> None:
    """Saved by two processes, taken up by three."""
    config = OptimizerConfig(item_table=kind, weight_decay=0.1)  # type: ignore[arg-type]

    def step(toy: Toy, optimizer: OptimizerSet, processes: Processes | None) -> None:
        toy.loss(torch.arange(1, 6)).backward()
        table = toy.embedding["item"]
        assert isinstance(table, ItemTable)
        table.finish_gradients()
        optimizer.step()
        optimizer.zero_grad()

    def parts(processes: Processes | None) -> tuple[Toy, OptimizerSet]:
        toy = Toy(seeded(processes, 8))
        return toy, build_optimizer(config, toy)

    def save(processes: Processes) -> tuple[dict[str, Tensor], dict[str, Any]]:
        toy, optimizer = parts(processes)
        step(toy, optimizer, processes)
        states = WholeStates(toy, optimizer.parameters)
        return states.whole_weights(toy.state_dict()), states.whole_optimizer(optimizer.state_dict())

    weights, state = together(2, save)[0]
    plain, plain_optimizer = parts(None)
    step(plain, plain_optimizer, None)
    torch.testing.assert_close(weights, dict(plain.state_dict()))
    torch.testing.assert_close(state, plain_optimizer.state_dict())

    def go_on(processes: Processes) -> tuple[dict[str, Tensor], dict[str, Any]]:
        toy, optimizer = parts(processes)
        states = WholeStates(toy, optimizer.parameters)
        toy.load_state_dict(states.own_weights(weights))
        optimizer.load_state_dict(states.own_optimizer(copy.deepcopy(state)))
        step(toy, optimizer, processes)
        return states.whole_weights(toy.state_dict()), states.whole_optimizer(optimizer.state_dict())

    weights_after, state_after = together(3, go_on)[0]
    step(plain, plain_optimizer, None)
    torch.testing.assert_close(weights_after, dict(plain.state_dict()))
    torch.testing.assert_close(state_after, plain_optimizer.state_dict())


def test_states_of_a_whole_table_stay_as_they_are() -> None:
    toy = Toy(seeded(None, 4))
    optimizer = build_optimizer(OptimizerConfig(), toy)
    states, weights = WholeStates(toy, optimizer.parameters), dict(toy.state_dict())
    assert states.whole_weights(weights) == states.own_weights(weights) == weights
    assert states.whole_optimizer(optimizer.state_dict()) == optimizer.state_dict()


def test_a_whole_table_is_an_embedding() -> None:
    """Drawn with the same random numbers, with the same gradients."""
    torch.manual_seed(0)
    table = WholeTable(6, DIM)
    after = torch.rand(1)
    torch.manual_seed(0)
    plain = nn.Embedding(6, DIM, padding_idx=0)
    nn.init.trunc_normal_(plain.weight, std=0.02, a=-0.04, b=0.04)
    assert torch.equal(after, torch.rand(1))
    with torch.no_grad():
        plain.weight[0] = 0.0
    assert torch.equal(table.weight, plain.weight)
    ids = torch.tensor([5, 0, 2, 2])
    for one in (table, plain):
        one(ids).square().sum().backward()
    assert torch.equal(table.weight.grad, plain.weight.grad)  # type: ignore[arg-type]
    assert table.own_ids.tolist() == list(range(6))
    assert torch.equal(table.own_rows(), plain(torch.arange(6)))
    assert not table.is_divided


def test_gradients_of_all_look_ups_at_once_are_those_of_each() -> None:
    torch.manual_seed(0)
    one = WholeTable(6, DIM)
    other = copy.deepcopy(one)
    other.sum_at_once()
    first, second = torch.tensor([5, 0, 2, 2]), torch.tensor([2, 1])
    for table in (one, other):
        for _ in range(2):  # two micro-batches
            (table(first).square().sum() + table(second).exp().sum()).backward()
            assert table is one or not table.pending[0].vectors.grad.eq(0).all()  # type: ignore[union-attr]
            table.finish_gradients()
    torch.testing.assert_close(other.weight.grad, one.weight.grad)
    other.clear_gradients()
    assert other.weight.grad is None
    frozen = WholeTable(3, 1)
    frozen.weight.requires_grad_(False)
    frozen.sum_at_once()
    assert not frozen.collects
