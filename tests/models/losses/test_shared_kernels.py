"""Kernels of the softmax among shared candidates, interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.gpu.availability import without_kernels
from models.losses import kernels, retrieval
from models.losses.columns import merged_columns, separate_columns
from models.losses.extra import ExtraMass
from models.losses.retrieval import RetrievalLoss
from tests.models.interpreted import DEVICE
from tests.models.losses import loss_oracle as oracle
from tests.models.losses.test_losses import lookup, make_loss, make_vectors, negatives_of

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@dataclass(frozen=True)
class Problem:
    positions: int
    columns: int
    items: int
    dim: int
    products: torch.dtype = torch.float32
    masked: float = 0.0
    temperature: float = 0.3
    merged: bool = True

    def __str__(self) -> str:
        return "-".join(str(value).removeprefix("torch.") for value in vars(self).values())


PROBLEMS = [
    Problem(7, 5, 4, 16),
    Problem(1, 1, 3, 50),  # that is the target, or is not
    Problem(140, 150, 60, 50, masked=0.3),
    Problem(140, 150, 60, 50, masked=0.3, merged=False),
    Problem(130, 300, 1000, 129),
    Problem(40, 70, 9, 64, torch.float16, masked=0.5),
    Problem(130, 200, 100, 256, torch.float16, temperature=0.05),
    Problem(9, 20, 8, 32, masked=1.0),
]


def tensors(problem: Problem) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, the table, ranks of columns, which count, their corrections by rank, targets, gradients."""
    torch.manual_seed(3)
    query = torch.nn.functional.normalize(torch.randn(problem.positions, problem.dim), dim=1)
    table = torch.nn.functional.normalize(torch.randn(problem.items, problem.dim), dim=1)
    ranks = torch.randint(problem.items, (problem.columns,))
    counts = torch.rand(problem.columns) >= problem.masked
    correction = torch.randn(problem.items)
    target = torch.randint(problem.items, (problem.positions,))
    given = torch.randn(problem.positions) / 1000
    given[::5] = 0.0  # positions that only pad a batch
    every = (query / problem.temperature, table, ranks, counts, correction, target, given)
    return tuple(one.to(DEVICE) for one in every)  # type: ignore[return-value]


def solve(problem: Problem) -> list[Tensor]:
    """Losses, and gradients of the queries, of the positives and of the table."""
    query, table, ranks, counts, correction, target, given = tensors(problem)
    query, table = query.requires_grad_(), table.requires_grad_()
    positive = (query.detach() * table.detach()[target]).sum(1).requires_grad_()
    make = merged_columns if problem.merged else separate_columns
    columns = make(ranks, counts if problem.masked else None, lambda ranks: correction[ranks])
    vectors = table[ranks]
    assert kernels.fits_shared(query, vectors)
    losses = kernels.shared_softmax(query, positive, vectors, target, columns, problem.products)
    return [losses, *torch.autograd.grad(losses, (query, positive, table), given)]


def truth(problem: Problem) -> list[Tensor]:
    """The same from the formula, one position at a time, in float64."""
    query, table, ranks, counts, correction, target, given = tensors(problem)
    query, table = query.double().requires_grad_(), table.double().requires_grad_()
    positive = (query.detach() * table.detach()[target]).sum(1).requires_grad_()
    losses = []
    for q, score, own in zip(query, positive, target.tolist(), strict=True):
        among = ranks[counts & (ranks != own)]
        scores = table[among] @ q - correction[among].double()
        losses.append((1.0 + (scores - score).exp().sum()).log())
    found = torch.stack(losses)
    return [found, *torch.autograd.grad(found, (query, positive, table), given.double())]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_losses_and_gradients_are_those_of_the_formula(problem: Problem) -> None:
    for found, expected in zip(solve(problem), truth(problem), strict=True):
        assert found.dtype == torch.float32
        size = float(expected.detach().abs().max())
        off = 3e-3 if problem.products == torch.float16 else 2e-5
        torch.testing.assert_close(found.double(), expected, rtol=off, atol=off * size)


@pytest.mark.parametrize("problem", [PROBLEMS[2], PROBLEMS[6]], ids=str)
def test_they_are_however_the_loss_is_cut(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.losses.kernels import shared_function

    monkeypatch.setattr(shared_function, "_AHEAD", False)
    monkeypatch.setattr(shared_function, "_LAZY", False)
    test_losses_and_gradients_are_those_of_the_formula(problem)


@pytest.mark.parametrize(("positions", "dim"), [(1, 16), (70, 50), (9, 257)])
def test_scores_of_pairs_are_scaled_products(positions: int, dim: int) -> None:
    torch.manual_seed(1)
    query, vectors, slope = torch.randn(positions, dim), torch.randn(positions, dim), torch.randn(positions)
    query, vectors = (one.to(DEVICE).requires_grad_() for one in (query, vectors))
    scores = kernels.pair_scores(query, vectors, 20.0)
    scores.backward(slope.to(DEVICE))
    one, other = query.detach().double().cpu(), vectors.detach().double().cpu()
    torch.testing.assert_close(scores.double().cpu(), 20 * (one * other).sum(1), atol=1e-4, rtol=1e-5)
    factor = 20 * slope.double()[:, None]
    assert query.grad is not None
    assert vectors.grad is not None
    torch.testing.assert_close(query.grad.double().cpu(), factor * other, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors.grad.double().cpu(), factor * one, atol=1e-5, rtol=1e-5)


def test_numbers_are_scaled_and_cut_off_where_half_precision_ends() -> None:
    from models.losses.kernels.pair_function import narrowed

    x = torch.tensor([[1.0, -2.0, 3.0], [1e5, -1e5, 0.1], [5.0, 6.0, 7.0]], device=DEVICE)
    place, number = torch.tensor([2, 0, 3], device=DEVICE), torch.tensor([2], device=DEVICE)
    found = narrowed(x, 5, 16, torch.float16, 2.0, place, number)
    assert found[:, 3:].eq(0).all()
    assert found[:, :3].tolist() == [[10.0, 12.0, 14.0], [2.0, -4.0, 6.0], *[[0.0] * 3] * 3]
    whole = narrowed(x, 3, 16, torch.float16, 1.0)
    assert whole[1, :2].tolist() == [65504.0, -65504.0]


def test_what_is_too_far_apart_for_exponentials() -> None:
    """A loss of nothing but rounding, one of hundreds, and no number that is none."""
    query = torch.tensor([[300.0] + 15 * [0.0], [-300.0] + 15 * [0.0]], device=DEVICE)
    vectors = torch.eye(16, device=DEVICE)[:2]
    columns = merged_columns(torch.tensor([0, 1], device=DEVICE), None, None)
    target = torch.tensor([0, 0], device=DEVICE)
    positive = (query * vectors[target]).sum(1)
    losses = kernels.shared_softmax(query, positive, vectors, target, columns, torch.float32)
    torch.testing.assert_close(losses.cpu(), torch.tensor([0.0, 300.0]))


def test_alike_candidates_are_one_column_that_counts_as_often() -> None:
    ranks = torch.tensor([5, 2, 5, 9, 2, 5])
    counts = torch.tensor([True, True, True, False, True, True])
    columns = merged_columns(ranks, counts, None)
    count = int(columns.number)
    assert columns.ranks[:count].tolist() == [2, 5]
    assert columns.place[:count].tolist() == [1, 0]
    assert columns.place[count:].tolist() == [6] * 4
    torch.testing.assert_close(columns.bias[:count].exp(), torch.tensor([2.0, 3.0]))


SHARED: list[dict[str, Any]] = [
    {"source": "in_batch"},
    {"source": "in_batch", "logq": True},
    {"source": "mixed", "sharing": "batch", "count": 5, "logq": True},
    {"sharing": "batch", "count": 6, "popularity_power": 0.5, "logq": True},
]


def losses_of(loss: RetrievalLoss, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes how often the kernels are asked, which are exact here: half precision is for GPUs."""
    asked: list[int] = []
    own = kernels.shared_softmax

    def noted(*arguments: Any, scale: float) -> Tensor:
        asked.append(1)
        return own(*arguments, torch.float32, scale)

    monkeypatch.setattr(kernels, "shared_softmax", noted)
    return asked


@pytest.mark.parametrize("negatives", SHARED, ids=lambda config: "-".join(map(str, config.values())))
def test_in_mixed_precision_a_loss_is_its_formula(
    negatives: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    query, items, target = make_vectors()
    loss = make_loss(negatives=negatives).to(DEVICE)
    asked = losses_of(loss, monkeypatch)
    torch.manual_seed(1)
    drawn = negatives_of(loss, target)
    expected = oracle.ORACLES["sampled_softmax"](query, items, target.tolist(), drawn, loss.config)
    ours = [one.detach().float().to(DEVICE).requires_grad_() for one in (query, items)]
    torch.manual_seed(1)
    with torch.autocast(DEVICE, torch.bfloat16):
        found = loss(ours[0], target.to(DEVICE), lookup(ours[1]))
    assert asked
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(found, ours), torch.autograd.grad(expected, (query, items)), strict=True
    ):
        torch.testing.assert_close(one.double().cpu(), other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("negatives", SHARED[1:], ids=lambda config: "-".join(map(str, config.values())))
@pytest.mark.parametrize("alike", [True, False])
def test_masks_weights_and_further_mass_are_as_without_kernels(
    negatives: dict[str, Any], alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has formulas of its own to be compared with."""
    vectors = make_vectors(positions=30)
    query, items = (one.detach().float().to(DEVICE).requires_grad_() for one in vectors[:2])
    target, loss = vectors[2].to(DEVICE), make_loss(negatives=negatives).to(DEVICE)
    loss.alike = alike
    asked = losses_of(loss, monkeypatch)
    extra = [torch.randn(30, device=DEVICE).requires_grad_() for _ in range(2)]
    options: dict[str, Any] = {
        "denominator": 7.0,
        "mask": torch.rand(30, device=DEVICE) < 0.7,
        "extra": ExtraMass(*extra),
        "weight": torch.rand(30, device=DEVICE),
    }
    results = []
    for way in (nullcontext(), without_kernels()):
        torch.manual_seed(1)
        with way, torch.autocast(DEVICE, torch.bfloat16):
            found = loss(query, target, lookup(items), **options)
        results.append([found, *torch.autograd.grad(found, (query, items, *extra))])
    assert len(asked) == 1
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"negatives": {"count": 3}},
        {"kind": "bce", "negatives": {"source": "in_batch"}},
        {"label_smoothing": 0.1, "negatives": {"source": "in_batch"}},
        {"negatives": {"source": "mixed", "count": 3}},
    ],
    ids=str,
)
def test_others_go_their_own_ways(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    query, items, target = (one.detach() for one in make_vectors())
    loss = make_loss(**config).to(DEVICE)
    asked = losses_of(loss, monkeypatch)
    with torch.autocast(DEVICE, torch.bfloat16):
        loss(query.float().to(DEVICE), target.to(DEVICE), lookup(items.float().to(DEVICE)))
    in_batch = make_loss(negatives={"source": "in_batch"}).to(DEVICE)
    in_batch(query.float().to(DEVICE), target.to(DEVICE), lookup(items.float().to(DEVICE)))  # float32
    assert not asked


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without numbers can be asked for none."""
    with FakeTensorMode():
        ranks = torch.empty(9, dtype=torch.int64)
        columns = merged_columns(ranks, torch.empty(9, dtype=torch.bool), lambda ranks: ranks.float())
    assert columns.ranks.shape == columns.bias.shape == columns.place.shape == (9,)
    assert retrieval.shared_losses is not None
