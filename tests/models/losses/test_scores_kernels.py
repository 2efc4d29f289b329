"""Kernels for scores of drawn rows: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from models.gpu.availability import without_kernels
from models.losses import chunks, kernels
from models.losses.drawn import OwnNegatives, scores_of_rows
from tests.models.interpreted import DEVICE, on_gpu
from tests.models.losses.test_losses import lookup, make_loss

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")
needs_gpu = pytest.mark.skipif(not on_gpu, reason="no CUDA device")


def uniform(positions: int, items: int, count: int) -> Tensor:
    return torch.randint(items, (positions, count))


def skewed(positions: int, items: int, count: int) -> Tensor:
    """An item is drawn in proportion to one over its number."""
    odds = 1.0 / torch.arange(1, items + 1)
    return torch.multinomial(odds, positions * count, replacement=True).view(positions, count)


def all_equal(positions: int, items: int, count: int) -> Tensor:
    return torch.full((positions, count), items - 1)


def each_once(positions: int, items: int, count: int) -> Tensor:
    return torch.randperm(items)[: positions * count].view(positions, count)


@dataclass(frozen=True)
class Problem:
    positions: int
    items: int
    dim: int
    count: int
    draw: Callable[[int, int, int], Tensor] = uniform
    query_type: torch.dtype = torch.float32
    table_type: torch.dtype = torch.float32

    def __str__(self) -> str:
        sizes = f"{self.positions}-{self.items}-{self.dim}-{self.count}"
        return f"{sizes}-{self.draw.__name__}-{self.query_type}-{self.table_type}".replace("torch.", "")

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query, table, rows, and the scores' gradient."""
        torch.manual_seed(4)
        rows = self.draw(self.positions, self.items, self.count)
        query, table, grad = (
            torch.randn(size)
            for size in ((self.positions, self.dim), (self.items, self.dim), (self.positions, self.count))
        )
        query = query.to(DEVICE, self.query_type).requires_grad_()
        table = table.to(DEVICE, self.table_type).requires_grad_()
        return query, table, rows.to(DEVICE), grad.to(DEVICE)


def solve(query: Tensor, table: Tensor, rows: Tensor, grad: Tensor) -> list[Tensor]:
    """Scores, and gradients of query and table."""
    assert kernels.fits(rows, query, table)
    scores = scores_of_rows(query, table, rows)
    return [scores, *torch.autograd.grad(scores, (query, table), grad.to(scores.dtype))]


def truth(query: Tensor, table: Tensor, rows: Tensor, grad: Tensor) -> list[Tensor]:
    """The same by float64 vectors of each draw."""
    query, table = (vectors.detach().double().requires_grad_() for vectors in (query, table))
    scores = torch.einsum("pd,pkd->pk", query, table[rows])
    return [scores, *torch.autograd.grad(scores, (query, table), grad.double())]


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Relative to the largest number of each."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * max(1.0, b.abs().max().item()))


HALF = {"query_type": torch.float16, "table_type": torch.float16}
PROBLEMS = [
    Problem(7, 5, 1, 7),
    Problem(1, 1, 1, 1),
    Problem(9, 30, 25, 1),
    Problem(5, 20, 25, 128, skewed),
    Problem(6, 40, 50, 128),
    Problem(12, 40, 50, 128, skewed),
    Problem(10, 3, 64, 128, all_equal),
    Problem(4, 60, 64, 7, each_once),
    Problem(2, 20, 300, 128),
    Problem(2, 30, 50, 1000, skewed),
    Problem(1, 2, 1030, 7),
    Problem(6, 40, 50, 7, **HALF),
    Problem(3, 20, 64, 128, skewed, **HALF),
    Problem(3, 20, 25, 7, query_type=torch.float16),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_scores_and_gradients(problem: Problem) -> None:
    tensors = problem.tensors()
    precise = problem.query_type == torch.float32
    found = solve(*tensors)
    assert_close(found, truth(*tensors), 1e-6 if precise else 1e-3)
    types = [torch.promote_types(problem.query_type, problem.table_type), problem.query_type]
    assert [tensor.dtype for tensor in found] == [*types, problem.table_type]


@pytest.mark.parametrize("draw", [uniform, skewed, all_equal])
def test_two_runs_give_the_same_bits(draw: Callable[[int, int, int], Tensor]) -> None:
    tensors = Problem(5, 8, 50, 128, draw).tensors()
    for a, b in zip(solve(*tensors), solve(*tensors), strict=True):
        assert torch.equal(a, b)


def test_views_are_taken_as_they_are() -> None:
    """Columns and rows cut out, numbers of a row apart, all rows one, gradients that are one number."""
    _, wide, rows, _ = Problem(6, 20, 50, 7).tensors()
    tall = torch.randn(20, 6, device=DEVICE)
    grad = torch.ones((), device=DEVICE).expand(6, 7)
    for query, table in (
        (wide[3:9, 10:33], wide[:, 20:43]),
        (tall.T, wide[:, 5:25]),
        (wide[:1, 1:24].expand(6, 23), wide[:, 27:]),
        (wide[1:7, 4:5], wide[:, 9:10]),
    ):
        leaves = query.detach().requires_grad_(), table.detach().requires_grad_()
        assert_close(solve(*leaves, rows, grad), truth(*leaves, rows, grad), 1e-6)
    assert_close(
        solve(wide.detach()[:6].requires_grad_(), wide, rows.T.contiguous().T, grad),
        truth(wide.detach()[:6].requires_grad_(), wide, rows, grad),
        1e-6,
    )


@pytest.mark.parametrize("problem", [Problem(0, 5, 8, 7), Problem(3, 5, 8, 0)], ids=str)
def test_without_draws_there_is_nothing(problem: Problem) -> None:
    query, table, rows, grad = problem.tensors()
    for found, like in zip(solve(query, table, rows, grad), (grad, query, table), strict=True):
        assert found.shape == like.shape
        assert not found.any()


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_alone(wanted: int) -> None:
    query, table, rows, grad = Problem(4, 6, 8, 7).tensors()
    expected = truth(query, table, rows, grad)
    leaves = [query, table]
    leaves[1 - wanted] = leaves[1 - wanted].detach()
    scores = scores_of_rows(*leaves, rows)
    (found,) = torch.autograd.grad(scores, leaves[wanted], grad)
    assert_close([found], [expected[1 + wanted]], 1e-6)


def test_a_second_derivative_is_refused() -> None:
    query, table, rows, grad = Problem(4, 6, 8, 7).tensors()
    (first,) = torch.autograd.grad(
        scores_of_rows(query, table, rows), query, grad.requires_grad_(), create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_what_kernels_do_not_take_goes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    query, table, rows, grad = Problem(4, 6, 8, 7).tensors()
    expected = truth(query, table, rows, grad)
    assert not kernels.fits(rows, query.double(), table.double())
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not kernels.fits(rows, query, table)
    assert kernels.fits(rows, query, table)
    with without_kernels():
        assert not kernels.fits(rows, query, table)
        scores = scores_of_rows(query, table, rows)
    assert kernels.fits(rows, query, table)
    assert_close([scores, *torch.autograd.grad(scores, (query, table), grad)], expected, 1e-6)


def test_the_smallest_keys_are_sorted() -> None:
    from models.losses.kernels.scores_function import _key_type

    assert [_key_type(n) for n in (1, 2**15 - 1)] == [torch.int16] * 2
    assert [_key_type(n) for n in (2**15, 2**31 - 1)] == [torch.int32] * 2
    assert _key_type(2**31) == torch.int64


LOSSES: list[dict[str, Any]] = [
    {"negatives": {"count": 50}},
    {"negatives": {"count": 7, "source": "mixed", "logq": True}, "label_smoothing": 0.1},
    {"negatives": {"count": 20, "popularity_power": 1.0, "logq": True}},
    {"kind": "bce", "negatives": {"count": 1}},
    {"kind": "gbce", "negatives": {"count": 9}},
]


@pytest.mark.parametrize("config", LOSSES, ids=str)
@pytest.mark.parametrize("items", [11, 1000])  # all of them are looked up, or those that were drawn
def test_the_whole_loss(config: dict[str, Any], items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets are among the draws; in several chunks, and some positions masked."""
    positions, dim = 6, 25
    query, table, _, _ = Problem(positions, items, dim, 1).tensors()
    target = torch.tensor([0, 1, 2, 3, 3, 0], device=DEVICE)
    mask = torch.tensor([True, True, False, True, True, True], device=DEVICE)
    counts = [0, 0, *range(items, 0, -1)]
    loss = make_loss(counts=counts, **config).to(DEVICE)
    assert kernels.fits(target[:, None], query, table)
    monkeypatch.setattr(chunks, "_CHUNK_SCORES", {DEVICE: 3 * config["negatives"]["count"]})
    results = []
    for precise in (False, True):
        q, v = (x.detach().to(torch.float64 if precise else x.dtype).requires_grad_() for x in (query, table))
        torch.manual_seed(1)
        with without_kernels() if precise else nullcontext():
            value = loss(q, target, lookup(v), mask=mask)
        results.append([value, *torch.autograd.grad(value, (q, v))])
    assert_close(results[0], results[1], 1e-5)


def test_no_more_scores_are_held_than_draws() -> None:
    _, table, rows, _ = Problem(4, 6, 8, 7).tensors()
    assert OwnNegatives(rows, rows, table).width == 7


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("draw", [uniform, skewed])
@pytest.mark.parametrize(
    ("kind", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("size", [(700, 3706, 50, 128), (300, 90_000, 256, 100), (37, 500, 1024, 1000)])
def test_on_the_gpu(
    size: tuple[int, int, int, int], kind: torch.dtype, tolerance: float, draw: Callable[..., Tensor]
) -> None:
    tensors = Problem(*size, draw, query_type=kind, table_type=kind).tensors()
    found = solve(*tensors)
    assert_close(found, truth(*tensors), tolerance)
    assert all(torch.equal(a, b) for a, b in zip(found, solve(*tensors), strict=True))


@pytest.mark.gpu
@needs_gpu
def test_many_draws_of_one_row() -> None:
    tensors = Problem(2000, 50, 50, 128, all_equal).tensors()
    assert_close(solve(*tensors), truth(*tensors), 1e-6)


@pytest.mark.gpu
@needs_gpu
def test_mixed_precision_leaves_the_loss_alone() -> None:
    """Where torch's products would be rounded to TF32, the kernels' are not."""
    query, table, _, _ = Problem(500, 1000, 50, 1).tensors()
    target = torch.randint(1000, (500,), device=DEVICE)
    loss = make_loss(counts=[1] * 1002, negatives={"count": 128}).to(DEVICE)
    results = []
    for mixed in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            value = loss(query, target, lookup(table))
        results.append([value, *torch.autograd.grad(value, (query, table))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
@needs_gpu
def test_a_recording_follows_its_input() -> None:
    query, table, rows, grad = Problem(300, 500, 50, 128, skewed).tensors()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        solve(query, table, rows, grad)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        found = solve(query, table, rows, grad)
    torch.manual_seed(9)
    with torch.no_grad():
        query.normal_()
        table.normal_()
        grad.normal_()
        rows.copy_(all_equal(300, 500, 128))
    graph.replay()
    assert_close(found, truth(query, table, rows, grad), 1e-6)


@pytest.mark.gpu
@needs_gpu
def test_nothing_waits_for_the_gpu() -> None:
    tensors = Problem(300, 500, 50, 128).tensors()
    solve(*tensors)
    torch.cuda.set_sync_debug_mode("error")
    try:
        solve(*tensors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_tables_past_two_to_the_31_numbers() -> None:
    dim = 64
    items = 2**31 // dim + 1000
    if torch.cuda.mem_get_info()[0] < 20 << 30:
        pytest.skip("the table and its gradient take 9 GB, and less than 20 GB are free")
    first = items - 2000
    tail = torch.randn(2000, dim, device=DEVICE).bfloat16()
    table = torch.zeros(items, dim, device=DEVICE, dtype=torch.bfloat16)
    table[first:] = tail
    query, _, rows, grad = Problem(50, 2000, dim, 128, query_type=torch.bfloat16).tensors()
    expected = truth(query, tail, rows, grad)
    scores, of_query, of_table = solve(query, table.requires_grad_(), rows + first, grad)
    assert_close([scores, of_query, of_table[first:]], expected, 1e-2)
    assert not of_table[:first].any()
