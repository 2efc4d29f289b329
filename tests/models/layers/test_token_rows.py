"""Passes over the vectors of tokens, interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from models.gpu.availability import without_kernels
from models.layers.dropout import Dropout
from models.layers.token_rows import add_rows, take_rows
from tests.models.interpreted import DEVICE, on_gpu

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize(("count", "dim"), [(1, 4), (40, 50), (9, 256), (0, 8)])
def test_sums_and_gradients_are_those_of_the_formula(count: int, dim: int) -> None:
    torch.manual_seed(0)
    x, table, slope = torch.randn(count, dim), torch.randn(5, dim), torch.randn(count, dim)
    place = torch.randint(5, (count,))
    own = [one.to(DEVICE).requires_grad_() for one in (x, table)]
    found = add_rows(*own, place.to(DEVICE), 16.0, Dropout(0.0))
    found.backward(slope.to(DEVICE))
    torch.testing.assert_close(found.cpu(), 16 * x + table[place])
    of_table = torch.zeros(5, dim, dtype=torch.float64).index_add_(0, place, slope.double())
    assert own[0].grad is not None
    assert own[1].grad is not None
    torch.testing.assert_close(own[0].grad.cpu(), 16 * slope)
    torch.testing.assert_close(own[1].grad.double().cpu(), of_table, atol=1e-5, rtol=1e-5)


def test_dropout_zeroes_sums_and_their_gradients_alike() -> None:
    x = torch.randn(70, 50, device=DEVICE, requires_grad=True)
    table = torch.randn(3, 50, device=DEVICE, requires_grad=True)
    place = torch.randint(3, (70,), device=DEVICE)
    dropout = Dropout(0.25)
    torch.manual_seed(5)
    found = add_rows(x, table, place, 2.0, dropout)
    found.backward(torch.ones_like(found))
    kept = found != 0
    assert 0.7 < kept.float().mean() < 0.8
    total = (2 * x + table[place]).detach()
    torch.testing.assert_close(found, torch.where(kept, total / 0.75, 0.0))
    torch.testing.assert_close(x.grad, kept * (2 / 0.75))
    torch.testing.assert_close(table.grad, torch.zeros_like(table).index_add_(0, place, kept / 0.75))
    if not on_gpu:  # one seed means the same with kernels and without
        torch.manual_seed(5)
        with without_kernels():
            torch.testing.assert_close(add_rows(x, table, place, 2.0, dropout), found)
    assert add_rows(x, table, place, 2.0, dropout.eval()).ne(0).all()


@pytest.mark.parametrize("masked", [False, True])
def test_rows_are_taken_and_their_gradients_put_back(masked: bool) -> None:
    x = torch.randn(40, 50, device=DEVICE, requires_grad=True)
    rows = torch.tensor([3, 39, 0, 7, *([3, 7] if masked else [])], device=DEVICE)
    counts = torch.tensor([True] * 4 + [False] * 2, device=DEVICE) if masked else None
    found = take_rows(x, rows, counts)
    assert torch.equal(found, x[rows])
    slope = torch.randn_like(found)
    slope[4:] = 0.0
    found.backward(slope)
    expected = torch.zeros_like(x)
    expected[rows[:4]] = slope[:4]
    assert x.grad is not None
    assert torch.equal(x.grad, expected)
