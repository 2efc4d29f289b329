"""Kernels of gradients and optimizers by rows: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.distributed.processes import SingleProcess
from models.distributed.tables import WholeTable, row_gradient
from models.distributed.tables import table as table_module
from models.gpu import row_sums as sums
from models.optim import kernels as updates
from tests.models.interpreted import DEVICE
from tests.models.optim.test_by_rows import check_updates

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize("kind", ["adagrad", "adam"])
def test_rows_are_updated_by_the_formula_and_no_others(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, own = [], updates.step
    monkeypatch.setattr(updates, "step", lambda *given: (asked.append(1), own(*given))[1])
    check_updates(kind, DEVICE)
    assert asked


@pytest.mark.parametrize(
    ("count", "rows", "dim"), [(1, 3, 4), (1, 1, 4), (40, 5, 50), (70, 1000, 16), (130, 3, 8)]
)
def test_groups_are_summed(count: int, rows: int, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many gradients, of one, and of padding, which counts for nothing; all rows different, or one."""
    asked, own = [], sums.sum_groups
    monkeypatch.setattr(sums, "sum_groups", lambda *given: (asked.append(1), own(*given))[1])
    torch.manual_seed(count)
    ids, gradient = torch.randint(rows, (count,)), torch.randn(count, dim)
    whole = np.zeros((rows, dim))
    np.add.at(whole, ids.numpy(), gradient.double().numpy())
    whole[0] = 0.0
    cuts = (slice(None, count // 3), slice(count // 3, None))
    found = [(ids[cut].to(DEVICE), gradient[cut].to(DEVICE)) for cut in cuts]
    table = torch.zeros(rows, dim, device=DEVICE)
    given, twice = (row_gradient.sum_by_row(found, table) for _ in range(2))
    again = np.zeros((rows, dim))
    np.add.at(again, given.rows.cpu().numpy(), given.values.double().cpu().numpy())
    np.testing.assert_allclose(again, whole, atol=1e-5)
    assert torch.equal(twice.values, given.values)
    assert len(asked) == 2


class _Alike(SingleProcess):
    """One of two processes that do the same."""

    count = 2

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack([tensor, tensor])


@pytest.mark.parametrize("by_rows", [False, True])
def test_copies_have_the_mean_gradient_of_all(by_rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two look-ups in each process; they are grouped once."""
    grouped, own = [], table_module.grouped
    monkeypatch.setattr(table_module, "grouped", lambda *given: (grouped.append(1), own(*given))[1])
    torch.manual_seed(0)
    table = WholeTable(400, 8).to(DEVICE)
    table.keep_alike(_Alike())
    if by_rows:
        table.keep_row_gradients()
    ids, slope = torch.randint(400, (50,)), torch.randn(50, 8)
    wanted = np.zeros((400, 8))
    np.add.at(wanted, ids.numpy(), slope.double().numpy())
    wanted[0] = 0.0
    for part in (slice(None, 20), slice(20, None)):
        (table(ids[part].to(DEVICE)) * slope[part].to(DEVICE)).sum().backward()
    table.finish_gradients()
    found = np.zeros((400, 8))
    if by_rows:
        given = table.row_gradient
        np.add.at(found, given.rows.cpu().numpy(), given.values.double().cpu().numpy())
    else:
        assert table.weight.grad is not None
        found = table.weight.grad.double().cpu().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert grouped == [1]
