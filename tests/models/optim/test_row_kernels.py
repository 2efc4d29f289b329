"""Kernels of gradients and optimizers by rows: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.distributed.tables import row_gradient
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
