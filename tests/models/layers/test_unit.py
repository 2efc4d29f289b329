"""Vectors of length 1, interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch

from models.layers.unit import unit_rows
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize("shape", [(5, 256), (37, 50), (2, 3, 129), (0, 8), (9, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_and_gradients_are_those_of_the_formula(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype).to(DEVICE)
    if len(x) > 4:
        x[2] = 0.0
    x.requires_grad_()
    exact = x.detach().double().requires_grad_()
    unit = exact / exact.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    found = unit_rows(x)
    slope = torch.randn(shape, device=DEVICE)
    found.backward(slope)
    counts = exact.detach().any(-1)
    unit[counts].backward(slope.double()[counts])
    assert found.dtype == torch.float32
    assert x.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(found.double(), unit, atol=1e-6, rtol=1e-6)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(x.grad[counts].double(), exact.grad[counts], atol=tolerance, rtol=tolerance)
    if not bool(counts.all()) and dtype == torch.float32:  # as torch has it: the length is 1e-12
        torch.testing.assert_close(x.grad[~counts], slope[~counts] * 1e12)


def test_rows_may_be_parts_of_longer_ones() -> None:
    x = torch.randn(6, 40, device=DEVICE)
    torch.testing.assert_close(unit_rows(x[:, 8:24]), torch.nn.functional.normalize(x[:, 8:24], dim=-1))
