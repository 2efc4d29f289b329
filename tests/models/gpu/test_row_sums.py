"""Gradients of small tables, interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from models.gpu import row_sums
from models.gpu.row_sums import sum_rows
from models.layers.look_up import look_up
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


SIZES = [(40, 5, 50), (700, 3, 8), (130, 1, 8), (3, 9, 4), (0, 4, 4)]


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("count", "rows", "dim"), SIZES)
def test_sums_by_row(count: int, rows: int, dim: int, padding: bool) -> None:
    torch.manual_seed(0)
    place, gradients = torch.randint(rows, (count,)), torch.randn(count, dim)
    expected = torch.zeros(rows, dim, dtype=torch.float64).index_add_(0, place, gradients.double())
    if padding:
        expected[0] = 0.0
    found, again = (sum_rows(gradients.to(DEVICE), place.to(DEVICE), rows, padding=padding) for _ in range(2))
    assert torch.equal(found, again)
    torch.testing.assert_close(found.double().cpu(), expected, atol=1e-5, rtol=1e-5)


def test_known_groups_are_summed_by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the look-ups are of rows that others hold, and at 0."""
    torch.manual_seed(0)
    rows = row_sums._FEW + 50
    place, gradients = torch.randint(rows, (60,)), torch.randn(60, 8)
    place[::2], place[1:9:2] = 0, 7
    expected = torch.zeros(rows, 8, dtype=torch.float64).index_add_(0, place, gradients.double())
    expected[0] = 0.0
    place = place.to(DEVICE)
    groups = row_sums.grouped(place, rows)
    monkeypatch.setattr(row_sums, "_embedding_backward", None)
    found = sum_rows(gradients.to(DEVICE), place, rows, padding=True, groups=groups)
    torch.testing.assert_close(found.double().cpu(), expected, atol=1e-5, rtol=1e-5)


def test_small_tables_are_summed_by_kernels_and_large_ones_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    grouped: list[int] = []
    own = row_sums.grouped
    monkeypatch.setattr(row_sums, "grouped", lambda rows, most: (grouped.append(most), own(rows, most))[1])
    for rows in (row_sums._FEW, row_sums._FEW + 1):
        sum_rows(torch.ones(3000, 1, device=DEVICE), torch.arange(3000, device=DEVICE) % 7, rows)
    assert grouped == [row_sums._FEW + 1]


@pytest.mark.parametrize("padding", [False, True])
def test_rows_that_are_looked_up(padding: bool) -> None:
    torch.manual_seed(0)
    table = torch.randn(5, 16, device=DEVICE, requires_grad=True)
    ids = torch.randint(5, (4, 20), device=DEVICE)
    slope = torch.randn(4, 20, 16, device=DEVICE)
    found = look_up(ids, table, padding=padding)
    assert found.grad_fn is not None
    assert "LookUp" in found.grad_fn.name()
    assert torch.equal(found, table[ids])
    (gradient,) = torch.autograd.grad(found, table, slope)
    exact = torch.zeros(5, 16, dtype=torch.float64, device=DEVICE)
    exact.index_add_(0, ids.flatten(), slope.double().flatten(0, 1))
    if padding:
        exact[0] = 0.0
    torch.testing.assert_close(gradient.double(), exact, atol=1e-5, rtol=1e-5)
