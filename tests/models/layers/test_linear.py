"""Linear layers whose bias has its gradient from a kernel, interpreted, or compiled where there is a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.layers.linear import Linear
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize("shape", [(1, 4), (300, 50), (3, 7, 129), (0, 8)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gradients_are_those_of_the_formula(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Linear(shape[-1], 40, bias=True, device=DEVICE, dtype=dtype)
    x = torch.randn(shape, device=DEVICE).to(dtype).requires_grad_()
    slope = torch.randn(*shape[:-1], 40, device=DEVICE).to(dtype)
    found = layer(x)
    assert torch.equal(found, F.linear(x, layer.weight, layer.bias))
    leaves = (x, layer.weight, layer.bias)
    gradients = torch.autograd.grad(found, leaves, slope)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    truth = torch.autograd.grad(F.linear(*exact), exact, slope.double())
    tolerance = 1e-5 if dtype == torch.float32 else 3e-3
    for leaf, one, other in zip(leaves, gradients, truth, strict=True):
        assert one.dtype == leaf.dtype
        size = float(other.abs().max()) if other.numel() else 0.0
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance * size)
    assert all(map(torch.equal, gradients, torch.autograd.grad(layer(x), leaves, slope)))


def test_rows_with_gaps_are_summed() -> None:
    from models.layers.kernels.bias_function import column_sums

    wide = torch.randn(100, 70, device=DEVICE)
    torch.testing.assert_close(column_sums(wide[:, 3:60]), wide[:, 3:60].sum(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(column_sums(wide.T), wide.T.sum(0), atol=1e-5, rtol=1e-5)
