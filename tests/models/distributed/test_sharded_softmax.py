"""The full softmax over items that are divided among processes, against that in one place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.distributed.processes import Processes
from models.distributed.tables import HeldItems, RowShards
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
