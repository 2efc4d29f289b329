"""The softmax over all items: its formula, in any chunks, precision and memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.losses.full_softmax import full_softmax
from tests.models.largest import LargestTensor
from tests.models.losses import loss_oracle as oracle

POSITIONS, ITEMS, DIM, TEMPERATURE = 7, 11, 5, 0.05


@pytest.fixture
def vectors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    query = torch.randn(POSITIONS, DIM, dtype=torch.float64, generator=generator)
    items = torch.randn(ITEMS, DIM, dtype=torch.float64, generator=generator)
    target = torch.randint(ITEMS, (POSITIONS,), generator=generator)
    query, items = (torch.nn.functional.normalize(x, dim=-1).requires_grad_() for x in (query, items))
    return query, items, target


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100, None])
def test_it_is_its_formula_in_any_chunks(
    vectors: tuple[Tensor, ...], chunk: int | None, smoothing: float
) -> None:
    query, items, target = vectors
    found = full_softmax(query, items, target, TEMPERATURE, smoothing, chunk) / POSITIONS
    expected = oracle.softmax_over_all(query, items, target.tolist(), TEMPERATURE, smoothing)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(
        torch.autograd.grad(3.0 * found, (query, items)),
        torch.autograd.grad(3.0 * expected, (query, items)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_in_single_precision(vectors: tuple[Tensor, ...]) -> None:
    query, items, target = vectors
    loss = full_softmax(query.float(), items.float(), target, TEMPERATURE)
    expected = oracle.softmax_over_all(query, items, target.tolist(), TEMPERATURE)
    assert loss.dtype == torch.float32
    assert loss.item() / POSITIONS == pytest.approx(expected.item(), rel=1e-5)


def test_bfloat16_vectors_are_scored_in_float32(vectors: tuple[Tensor, ...]) -> None:
    """Scores over a small temperature would be off by more than a tenth; autocast changes nothing."""
    query, items, target = vectors
    coarse = [x.detach().bfloat16().requires_grad_() for x in (query, items)]
    exact = [x.detach().double().requires_grad_() for x in coarse]
    loss = full_softmax(*coarse, target, TEMPERATURE)
    assert loss.dtype == torch.float32
    expected = full_softmax(*exact, target, TEMPERATURE)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for a, b in zip(torch.autograd.grad(loss, coarse), torch.autograd.grad(expected, exact), strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert full_softmax(*coarse, target, TEMPERATURE).item() == loss.item()


def test_no_tensor_is_larger_than_a_chunk(vectors: tuple[Tensor, ...]) -> None:
    positions, items, dim, chunk = 64, 5000, 2, 4
    query, table = (torch.randn(n, dim, requires_grad=True) for n in (positions, items))
    target = torch.randint(items, (positions,))
    with LargestTensor() as largest:
        full_softmax(query, table, target, TEMPERATURE, 0.1, chunk).backward()
    assert largest.numbers == chunk * items


def test_nothing_depends_on_scores_that_are_far_apart() -> None:
    """Odds of e^400 and their reciprocals, in single precision."""
    query = torch.tensor([[20.0], [-20.0]], requires_grad=True)
    items = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    loss = full_softmax(query, items, torch.tensor([0, 0]), TEMPERATURE)
    assert loss.item() == 800.0
    assert torch.equal(torch.autograd.grad(loss, query)[0], torch.tensor([[0.0], [-40.0]]))
