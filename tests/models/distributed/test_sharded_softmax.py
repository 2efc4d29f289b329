"""The full softmax over items that are divided among processes, against that in one place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.distributed.processes import Processes
from models.distributed.tables import HeldItems, RowShards
from models.losses.extra import ExtraMass
from models.losses.full_softmax import full_softmax
from models.losses.sharded_softmax import sharded_full_softmax
from tests.models.distributed.threads import together

DIM, TEMPERATURE = 4, 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(
    ("item_ids", "positions", "chunk"), [(12, (3, 7), 4), (9, (5, 0, 2), None), (4, (2, 2, 1), 2)]
)
def test_losses_and_gradients_are_those_of_one_softmax_over_all(
    item_ids: int, positions: tuple[int, ...], chunk: int | None, smoothing: float
) -> None:
    """Some processes have no position; of two known items and three processes, one has no item."""
    first_item, count = 2, len(positions)
    random = torch.Generator().manual_seed(item_ids)
    table = torch.randn(item_ids, DIM, generator=random, dtype=torch.float64)
    query = [torch.randn(n, DIM, generator=random, dtype=torch.float64) for n in positions]
    target = [torch.randint(item_ids - first_item, (n,), generator=random) for n in positions]

    def work(processes: Processes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shards = RowShards(item_ids, processes.rank, count)
        ids = shards.held(first_item, torch.device("cpu"))
        own, items = query[processes.rank].clone().requires_grad_(), table[ids].requires_grad_()
        held = HeldItems(processes, shards, first_item)
        loss = sharded_full_softmax(own, items, target[processes.rank], held, TEMPERATURE, smoothing, chunk)
        (loss / 7.0).backward()
        assert own.grad is not None
        assert items.grad is not None
        return ids, loss.detach(), own.grad, items.grad

    results = together(count, work)
    whole = table[first_item:].requires_grad_()
    queries = [own.requires_grad_() for own in query]
    losses = [
        F.cross_entropy(own @ whole.T / TEMPERATURE, wanted, reduction="sum", label_smoothing=smoothing)
        for own, wanted in zip(queries, target, strict=True)
    ]
    (sum(losses, torch.zeros(())) / 7.0).backward()
    assert whole.grad is not None
    assert sorted(torch.cat([ids for ids, *_ in results]).tolist()) == list(range(first_item, item_ids))
    for (ids, loss, grad_query, grad_items), expected, own in zip(results, losses, queries, strict=True):
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(grad_query, own.grad)
        torch.testing.assert_close(grad_items, whole.grad[ids - first_item])


def test_masked_positions_do_not_count() -> None:
    """The loss and gradients of the others are those without them."""
    random = torch.Generator().manual_seed(0)
    items = torch.randn(5, DIM, generator=random, dtype=torch.float64)
    query = torch.randn(2, 3, DIM, generator=random, dtype=torch.float64)
    target = torch.tensor([[0, 4, 2], [3, 3, 1]])
    mask = torch.tensor([[True, False, True], [False, False, False]])

    def loss_of(processes: Processes, *, masked: bool) -> tuple[Tensor, Tensor, Tensor]:
        rank = processes.rank
        held = HeldItems(processes, RowShards(7, rank, 2), 2)
        ids = held.shards.held(2, torch.device("cpu"))
        kept = slice(None) if masked else mask[rank]
        own, mine = query[rank].clone().requires_grad_(), items[ids - 2].requires_grad_()
        loss = sharded_full_softmax(
            own[kept], mine, target[rank][kept], held, TEMPERATURE, 0.1, mask=mask[rank] if masked else None
        )
        loss.backward()
        assert own.grad is not None
        assert mine.grad is not None
        return loss.detach(), own.grad, mine.grad

    masked = together(2, lambda processes: loss_of(processes, masked=True))
    for found, wanted in zip(masked, together(2, lambda one: loss_of(one, masked=False)), strict=True):
        torch.testing.assert_close(found, wanted)
    assert masked[0][0] > 0.0
    assert masked[1][0] == 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [2, None])
def test_mass_beside_the_items_and_weights(chunk: int | None, smoothing: float) -> None:
    """As on one process; some positions have no mass, some are masked, one process has no position."""
    random = torch.Generator().manual_seed(1)
    none = float("-inf")
    positions, num_items = (3, 0, 4), 6
    items = torch.randn(num_items, DIM, generator=random, dtype=torch.float64)
    query = torch.randn(sum(positions), DIM, generator=random, dtype=torch.float64)
    target = torch.tensor([0, 4, 2, 3, 3, 1, 5])
    masses = torch.tensor([[none, 1.0, -2.0, 30.0, none, 0.5, 0.1], [0.3, none, 2.0, 1.0, none, 40.0, 0.2]])
    mask = torch.tensor([True, True, False, True, True, True, True])
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
    starts = [0, *torch.tensor(positions).cumsum(0).tolist()]

    def work(processes: Processes) -> tuple[Tensor, ...]:
        rank = processes.rank
        held = HeldItems(processes, RowShards(num_items + 2, rank, len(positions)), 2)
        ids = held.shards.held(2, torch.device("cpu")) - 2
        own = slice(starts[rank], starts[rank + 1])
        mine, table = query[own].clone().requires_grad_(), items[ids].requires_grad_()
        extra = ExtraMass(*(mass[own].double().requires_grad_() for mass in masses))
        loss = sharded_full_softmax(
            *(mine, table, target[own], held, TEMPERATURE, smoothing, chunk),
            mask=mask[own],
            extra=extra,
            weight=weight[own],
        )
        return ids, loss.detach(), *torch.autograd.grad(loss, (mine, table, *extra))

    wanted = [one.double().requires_grad_() for one in (query, items, *masses)]
    total = full_softmax(
        *(*wanted[:2], target, TEMPERATURE, smoothing),
        mask=mask,
        extra=ExtraMass(*wanted[2:]),
        weight=weight,
    )
    of_query, of_items, *of_masses = torch.autograd.grad(total, wanted)
    results = together(len(positions), work)
    torch.testing.assert_close(sum(loss for _, loss, *_ in results), total.detach())
    for (ids, _, grad_query, grad_items, *grad_masses), start, stop in zip(
        results, starts[:-1], starts[1:], strict=True
    ):
        torch.testing.assert_close(grad_query, of_query[start:stop])
        torch.testing.assert_close(grad_items, of_items[ids])
        for one, other in zip(grad_masses, of_masses, strict=True):
            torch.testing.assert_close(one, other[start:stop])
